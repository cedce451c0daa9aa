// Runs the questions one after the other, and prints what came of each as one line of JSON.
export const ask = async (questions) => {
  const found = {};
  for (const [name, question] of Object.entries(questions)) {
    try {
      found[name] = await question();
    } catch (error) {
      found[name] = { error: String(error?.message ?? error) };
    }
  }
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
};
