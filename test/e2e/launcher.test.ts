/** bin/waymark: which Node.js it takes, and what it sets for it. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, expect, test } from "vitest";

const WAYMARK = "bin/waymark";
const folder = mkdtempSync(join(tmpdir(), "waymark-launcher-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the launcher prints where `node` on the path says that it is of this major version, and else prints glibc's tunables and its arguments. */
function launch(major: number, own: Readonly<Record<string, string>>): string {
  const { GLIBC_TUNABLES: _tunables, NODE_OPTIONS: _options, ...env } = process.env;
  const script = `#!/bin/sh\nif [ "$1" = --version ]; then echo v${major}.1.0; else echo "tunables: $GLIBC_TUNABLES; $*"; fi\n`;
  writeFileSync(join(folder, "node"), script, { mode: 0o755 });
  const PATH = `${folder}${delimiter}${process.env["PATH"] ?? ""}`;
  return execFileSync(WAYMARK, ["--version"], { env: { ...env, ...own, PATH }, encoding: "utf8" }).trim();
}

test.each([
  { own: {}, has: "glibc.malloc.mxfast=0" },
  { own: { GLIBC_TUNABLES: "glibc.malloc.tcache_count=8" }, has: "glibc.malloc.tcache_count=8" },
])("the allocator's tunables are ours where there are none: $own", ({ own, has }) => {
  expect(launch(24, own)).toContain(`tunables: ${has};`);
});

test.each([
  { own: {}, isSet: true },
  { own: { NODE_OPTIONS: "--stack-trace-limit=5" }, isSet: true },
  { own: { NODE_OPTIONS: "--max-semi-space-size=32" }, isSet: false },
])("the young generation is small unless the operator says how large it is: $own", ({ own, isSet }) => {
  expect(launch(24, own).includes(" --max-semi-space-size=4 ")).toBe(isSet);
});

test("what Node.js calls experimental is not said to operators", () => {
  expect(launch(24, {})).toContain(" --disable-warning=ExperimentalWarning ");
});

test("a Node.js that is too old is passed over for the one among the dependencies", () => {
  expect(launch(20, {})).toMatch(/^waymark \d+\.\d+\.\d+$/);
});

test("a launcher in a folder that is reached through a link is the checkout's all the same", () => {
  const [bin, old] = [join(folder, "linked"), join(folder, "old")];
  symlinkSync(join(process.cwd(), "bin"), bin);
  mkdirSync(old);
  writeFileSync(join(old, "node"), "#!/bin/sh\necho v20.1.0\n", { mode: 0o755 });
  const env = { ...process.env, PATH: `${old}${delimiter}${process.env["PATH"] ?? ""}` };
  const { status, stdout, stderr } = spawnSync(join(bin, "waymark"), ["--version"], { env, encoding: "utf8" });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: expect.stringMatching(/^waymark \d/) as string, stderr: "" });
});

/** The launcher of an installed package, which has no sources, where `node` on the path is the given program. */
function launchInstalled(node: string | undefined): { readonly code: number | null; readonly stderr: string } {
  const home = mkdtempSync(join(folder, "package-"));
  cpSync(WAYMARK, join(home, "bin", "waymark"));
  // Its neighbours bring a Node.js that it must not take.
  mkdirSync(join(home, "node_modules"));
  symlinkSync(join(process.cwd(), "node_modules", "node"), join(home, "node_modules", "node"));
  const path = join(home, "path");
  mkdirSync(path);
  for (const tool of ["sh", "dirname", "readlink"])
    symlinkSync(execFileSync("which", [tool], { encoding: "utf8" }).trim(), join(path, tool));
  if (node !== undefined) writeFileSync(join(path, "node"), node, { mode: 0o755 });
  const { status, stderr } = spawnSync(join(home, "bin", "waymark"), ["--version"], { env: { PATH: path }, encoding: "utf8" });
  return { code: status, stderr };
}

test.each([
  {
    there: "an old one",
    node: "#!/bin/sh\necho v20.1.0\n",
    says: "the node on the path is v20.1.0",
  },
  { there: "none", node: undefined, says: "there is no node on the path" },
])("an installed package takes only the machine's Node.js: with $there it says what is missing", ({ node, says }) => {
  const { code, stderr } = launchInstalled(node);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `waymark needs Node.js 24 or newer, and ${says}; install it: this package does not bring one\n`,
  });
});

const REFUSAL = "node: --bogus is not allowed in NODE_OPTIONS";

test("a Node.js that does not run is no missing one: the launcher says what it said", () => {
  const { code, stderr } = launchInstalled(`#!/bin/sh\necho "${REFUSAL}" >&2\nexit 9\n`);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^waymark: \S+\/node --version failed: /);
  expect(stderr).toContain(REFUSAL);
  expect(stderr).not.toContain("install it");
});

test("in a checkout too, where no Node.js takes the options of NODE_OPTIONS", () => {
  const { status, stderr } = spawnSync(WAYMARK, ["--version"], { env: { ...process.env, NODE_OPTIONS: "--bogus" }, encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toContain("--bogus is not allowed in NODE_OPTIONS");
  expect(stderr).not.toContain("npm ci");
});
