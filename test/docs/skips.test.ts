/** README lists the tools that a machine may lack, and the tests that need them are skipped. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

/** Words of README, and how a test that may be skipped looks for what they name. */
const NEEDS: readonly { readonly word: string; readonly looksFor: RegExp }[] = [
  { word: "`dig`", looksFor: /isDigThere/ },
  { word: "`knotd` and `nsd`", looksFor: /knotd/ },
  { word: "`kdig`, `drill`, `delv` and `unbound`", looksFor: /areDnsClientsThere|isKdigThere/ },
  { word: "`curl`", looksFor: /areKdigAndCurlThere/ },
  { word: "`strace`", looksFor: /hasStrace/ },
  { word: "`libfaketime`", looksFor: /libfaketime/ },
  { word: "`chromium`", looksFor: /hasChromium/ },
  { word: "`promtool`", looksFor: /isPromtool/ },
  { word: "`etcd`", looksFor: /isEtcdThere/ },
  { word: "`grpcurl`", looksFor: /isGrpcurlThere/ },
  { word: "`connectconformance`", looksFor: /isConformanceThere/ },
  { word: "`go`", looksFor: /isGoThere/ },
  { word: "`python3`", looksFor: /findPython|findDnsPython/ },
  { word: "`coredns`", looksFor: /findCoreDns/ },
  { word: "`java`", looksFor: /isJavaThere/ },
  { word: "root (to simulate full disks)", looksFor: /isRoot/ },
  // Blocks of pages name their tool: `dig`, `grpcurl`.
  { word: "`dig`", looksFor: /isHere\(block\)/ },
  { word: "a non-loopback address", looksFor: /elsewhere === undefined/ },
  { word: "`/proc`", looksFor: /\/proc\/self/ },
];

test("README names everything without which a test of npm test is skipped", () => {
  const readme = readFileSync("README.md", "utf8");
  const files = readdirSync("test", { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.ts") && !/^(long|chaos|nightly|soak)\//.test(name) && name !== "docs/skips.test.ts")
    .map((name) => ({ name, text: readFileSync(join("test", name), "utf8") }))
    .filter(({ text }) => /\.(runIf|skipIf)\(/.test(text));
  expect(files.length).toBeGreaterThan(8);
  const said = NEEDS.filter(({ word }) => readme.includes(word));
  const silent = files.filter(({ text }) => !said.some(({ looksFor }) => looksFor.test(text)));
  expect(silent.map(({ name }) => name)).toEqual([]);
});
