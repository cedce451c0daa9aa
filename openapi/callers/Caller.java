import com.fasterxml.jackson.databind.ObjectMapper;
import flashgate.ApiClient;
import flashgate.ApiException;
import flashgate.api.NativeApi;
import flashgate.model.GenerateRequest;
import flashgate.model.GenerateResponse;
import flashgate.model.Problem;
import java.io.File;
import java.net.http.HttpClient;
import java.nio.file.Files;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

/**
 * What a program does with the generated Java client. Prints what it saw, as JSON.
 *
 * <p>Arguments: base URL, key, a key whose budget is one picture, two files of reference images.
 */
public final class Caller {
    private static final ObjectMapper MAPPER = ApiClient.createDefaultObjectMapper();

    private Caller() {}

    private static NativeApi apiOf(String url, String key) {
        ApiClient client = new ApiClient();
        // The JDK otherwise asks for an upgrade to HTTP/2 with its first request, which few servers grant.
        client.setHttpClientBuilder(HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1));
        client.updateBaseUri(url);
        client.setRequestInterceptor(request -> request.header("X-API-Key", key));
        return new NativeApi(client);
    }

    private static NativeApi.APIGenerateImagesRequest sending(GenerateRequest request) {
        return NativeApi.APIGenerateImagesRequest.newBuilder().generateRequest(request).build();
    }

    private static GenerateResponse generated(NativeApi api) throws ApiException {
        GenerateRequest request =
                new GenerateRequest()
                        .prompt("A lighthouse, for Java")
                        .imageSize("512")
                        .delivery(GenerateRequest.DeliveryEnum.URI);
        return api.generateImages(sending(request));
    }

    private static byte[] downloaded(NativeApi api, String imageId) throws Exception {
        File file = api.getImage(NativeApi.APIGetImageRequest.newBuilder().imageId(imageId).build());
        try {
            return Files.readAllBytes(file.toPath());
        } finally {
            Files.delete(file.toPath());
        }
    }

    private static GenerateResponse edited(NativeApi api, List<File> files) throws ApiException {
        return api.editImages(
                NativeApi.APIEditImagesRequest.newBuilder()
                        .prompt("Both as one")
                        .imageSize("512")
                        .image(files)
                        // The generated code takes no null for a list.
                        .document(List.of())
                        .video(List.of())
                        .responseModalities(List.of("IMAGE"))
                        .safetySettings(List.of())
                        .build());
    }

    private static Problem refused(NativeApi api) throws Exception {
        GenerateRequest request =
                new GenerateRequest().prompt("More than there is left, for Java").imageSize("4K");
        try {
            api.generateImages(sending(request));
        } catch (ApiException refusal) {
            return MAPPER.readValue(refusal.getResponseBody(), Problem.class);
        }
        throw new AssertionError("the budget did not refuse");
    }

    public static void main(String[] arguments) throws Exception {
        NativeApi api = apiOf(arguments[0], arguments[1]);
        GenerateResponse made = generated(api);
        byte[] bytes = downloaded(api, made.getImages().get(0).getId());
        GenerateResponse mixed = edited(api, List.of(new File(arguments[3]), new File(arguments[4])));
        Problem problem = refused(apiOf(arguments[0], arguments[2]));
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(bytes);
        Map<String, Object> seen =
                Map.of(
                        "made",
                        Map.of(
                                "id", made.getImages().get(0).getId(),
                                "tokens", made.getUsage().getImageTokens(),
                                "width", made.getImages().get(0).getWidth()),
                        "bytes", bytes.length,
                        "sha256", HexFormat.of().formatHex(digest),
                        "edited",
                        Map.of(
                                "tokens", mixed.getUsage().getImageTokens(),
                                "inputs", mixed.getUsage().getImageInput(),
                                "data", mixed.getImages().get(0).getData()),
                        "refused",
                        Map.of(
                                "status", problem.getStatus(),
                                "code", problem.getCode(),
                                "policies", problem.getViolatedPolicies()));
        System.out.print(MAPPER.writeValueAsString(seen));
    }
}
