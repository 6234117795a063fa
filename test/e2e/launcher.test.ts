/** bin/waymark: which Node.js it takes, and what it sets for it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, expect, test } from "vitest";

const WAYMARK = "bin/waymark";
const folder = mkdtempSync(join(tmpdir(), "waymark-launcher-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the launcher prints where `node` on the path says that it is of this major version, and else prints glibc's tunables. */
function launch(major: number, tunables: Readonly<Record<string, string>>): string {
  const { GLIBC_TUNABLES: _tunables, ...env } = process.env;
  const script = `#!/bin/sh\nif [ "$1" = -p ]; then echo ${major}; else echo "tunables: $GLIBC_TUNABLES"; fi\n`;
  writeFileSync(join(folder, "node"), script, { mode: 0o755 });
  const PATH = `${folder}${delimiter}${process.env["PATH"] ?? ""}`;
  return execFileSync(WAYMARK, ["--version"], { env: { ...env, ...tunables, PATH }, encoding: "utf8" }).trim();
}

test.each([
  { own: {}, has: "glibc.malloc.mxfast=0" },
  { own: { GLIBC_TUNABLES: "glibc.malloc.tcache_count=8" }, has: "glibc.malloc.tcache_count=8" },
])("the allocator's tunables are ours where there are none: $own", ({ own, has }) => {
  expect(launch(24, own)).toBe(`tunables: ${has}`);
});

test("a Node.js that is too old is passed over for the one among the dependencies", () => {
  expect(launch(20, {})).toMatch(/^waymark \d+\.\d+\.\d+$/);
});
