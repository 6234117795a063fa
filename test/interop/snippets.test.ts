/** The code in the guides for client authors is cut from the programs that the interop tests run. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../../scripts/run.ts";

const INTEROP = "test/interop";
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  go: below("go", ".go"),
  java: below("java", ".java"),
  python: below("python", ".py"),
  ts: [join(INTEROP, "typescript-child.ts")],
  xml: [join(INTEROP, "java/pom.xml")],
  yaml: [join(INTEROP, "go/buf.gen.yaml")],
};

function below(folder: string, ending: string): readonly string[] {
  const names = readdirSync(join(ROOT, INTEROP, folder)).filter((name) => name.endsWith(ending));
  return names.map((name) => join(INTEROP, folder, name));
}

/** The guide's blocks of a language, each as its text. */
function snippets(guide: string): readonly { readonly language: string; readonly text: string }[] {
  const page = readFileSync(join(ROOT, guide), "utf8");
  return [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({ language, text }));
}

const GUIDES = ["client-setup", "client-reads", "clients", "watch"].map((page) => `docs/guides/${page}.md`);

test.each(GUIDES)("every piece of code in %s is a piece of a tested program", (guide) => {
  const code = snippets(guide).filter(({ language }) => language in PROGRAMS);
  const foreign = code.filter(({ language, text }) => {
    const programs = PROGRAMS[language] ?? [];
    return !programs.some((file) => readFileSync(join(ROOT, file), "utf8").includes(text));
  });
  expect(code.length).toBeGreaterThan(2);
  expect(foreign).toEqual([]);
});
