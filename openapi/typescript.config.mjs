// For @hey-api/openapi-ts, with the document and the folder that the environment names.
export default {
  input: process.env.FLASHGATE_DOCUMENT,
  output: { path: process.env.FLASHGATE_OUTPUT, importFileExtension: ".js" },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
};
