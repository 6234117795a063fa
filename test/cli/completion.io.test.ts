import { execFileSync, spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { waymark } from "../fakes/cli-world.ts";

/** What bash offers for a command line whose last word is being typed. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const script = `${(await waymark(["completion", "bash"])).stdout}
COMP_WORDS=(waymark ${words.map((word) => `'${word}'`).join(" ")})
COMP_CWORD=${words.length}
_waymark
printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8" })
    .split("\n")
    .filter((word) => word !== "");
}

test.each([
  { words: [""], has: ["serve", "discovery", "dns", "completion"] },
  { words: ["disc"], has: ["discovery"] },
  { words: ["discovery", ""], has: ["query", "watch", "resolve", "cluster-map", "peers", "status"] },
  { words: ["--server", "x:1", "discovery", "q"], has: ["query"] },
  { words: ["discovery", "query", "--n"], has: ["--namespace", "--no-color"] },
  { words: ["discovery", "query", "--scope", ""], has: ["local", "zone", "region", "global"] },
  { words: ["discovery", "query", "-o", "j"], has: ["json"] },
  { words: ["completion", ""], has: ["bash", "zsh", "fish"] },
  { words: ["serve", "--grpc"], has: ["--grpc-port"] },
  { words: ["config", "validate", "package"], has: ["package.json"] },
  // What follows a flag is of its command: serve --policy takes a file.
  { words: ["discovery", "resolve", "--policy", ""], has: ["load-aware", "hash"] },
  { words: ["serve", "--policy", "package"], has: ["package.json"] },
  { words: ["--server", "discovery", "dns", ""], has: ["resolve", "node-encode"] },
  { words: ["help", "dis"], has: ["discovery"] },
])("bash completes $words to $has", async ({ words, has }) => {
  expect(await offered(...words)).toEqual(expect.arrayContaining(has));
});

test.each([
  { words: ["serve", "--policy", "load"], never: "load-aware" },
  { words: ["discovery", "query", "package"], never: "package.json" },
  { words: ["register", "--scope", ""], never: "package.json" },
  { words: ["--server", "discovery", ""], never: "query" },
])("bash does not offer $never after $words", async ({ words, never }) => {
  expect(await offered(...words)).not.toContain(never);
});

test("bash offers nothing that does not begin with what was typed", async () => {
  for (const word of await offered("discovery", "query", "--re")) expect(word).toMatch(/^--re/);
});

test.each([
  { shell: "zsh", args: ["-n"] },
  { shell: "fish", args: ["--no-execute"] },
] as const)("the $shell script is as reviewed, and $shell takes it where there is one", async ({ shell, args }) => {
  const { stdout: script } = await waymark(["completion", shell]);
  await expect(script).toMatchFileSnapshot(`../golden/cli/completion.${shell}`);
  const { error, status, stderr } = spawnSync(shell, [...args, "/dev/stdin"], { input: script, encoding: "utf8" });
  if (error === undefined) expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});
