/**
 * What CONTRIBUTING.md says an entry field, an entry kind and a kind of check cost is what they cost: in a copy of the repository one of each is added, by
 * those steps and no other, and the checks and tests of the rooms concerned hold.
 *
 * @module-tag path
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesBelow } from "../../scripts/imports.ts";
import { ROOT, run } from "../../scripts/run.ts";
import { isNight } from "../fakes/effort.ts";

const PROTO = "proto/waymark/catalog/v1/entry.proto";
const KINDS = "src/catalog/entry/kinds.ts";
const CHECK_FILES = [
  "src/catalog/entry/checks.ts",
  "src/discovery/checks/checks.ts",
  "src/discovery/checks/probe.ts",
  "src/node/checks/prober.io.ts",
  "src/cli/table/check-kinds.ts",
  "src/cli/entries/check-flag.ts",
] as const;
const STEP_MS = 280_000;

let copy = "";

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "waymark-adding-"));
  for (const path of ["bench", "bin", "docs", "gen", "proto", "scripts", "src", "test", "third_party"])
    cpSync(join(ROOT, path), join(copy, path), { recursive: true });
  for (const file of [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "buf.gen.yaml",
    "buf.yaml",
    "package.json",
    "tsconfig.json",
    "vitest.config.ts",
  ])
    cpSync(join(ROOT, file), join(copy, file));
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  writeFileSync(join(copy, "tsconfig.src.json"), JSON.stringify({ extends: "./tsconfig.json", include: ["src"] }));
});

afterAll(() => {
  rmSync(copy, { recursive: true, force: true });
});

function edit(file: string, from: string, to: string): void {
  const text = readFileSync(join(copy, file), "utf8");
  expect(text.split(from), `${file}: ${from}`).toHaveLength(2);
  writeFileSync(
    join(copy, file),
    text.replace(from, () => to),
  );
}

/** Few generated cases are enough, because the new field is in each of them. */
function runs(command: string, ...args: readonly string[]) {
  return run(command, args, { cwd: copy, env: { CI: "", WAYMARK_EFFORT: "quick" } });
}

/** What a command says that fails, of a test run only what failed; empty for one that does not. */
const faultIn = ({ code, output }: { readonly code: number | null; readonly output: string }): string =>
  code === 0 ? "" : output.slice(Math.max(0, output.search(/Failed (Tests|Suites)|Unhandled Errors/)));

async function faultOf(command: string, ...args: readonly string[]): Promise<string> {
  return faultIn(await runs(command, ...args));
}

const cells = (what: string): readonly string[] => {
  const rows = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8").split("\n");
  return rows.find((row) => row.startsWith(`| ${what} |`))?.split("|") ?? [];
};

test("the steps of this test are those of CONTRIBUTING.md", () => {
  const filesOf = (what: string) =>
    [...((cells(what)[2] ?? "").split("One line more")[0]?.matchAll(/`((?:proto|src)\/[^`]+)`/g) ?? [])].map(([, file]) => file);
  expect(filesOf("an entry field")).toEqual([PROTO]);
  expect(filesOf("an entry kind")).toEqual([PROTO, KINDS]);
  expect(filesOf("a kind of check")).toEqual([PROTO, ...CHECK_FILES]);
  for (const what of ["an entry field", "an entry kind", "a kind of check"])
    for (const step of ["`npm run gen`", "`npm run golden`"]) expect(cells(what)[2]).toContain(step);
});

/** A field of all entries, fields of a detail and a kind: in the proto, and a row in KINDS. */
function addFieldsAndKind(): void {
  edit(
    PROTO,
    "  bool registered_by_admin = 25 [(google.api.field_behavior) = OUTPUT_ONLY];\n",
    `  bool registered_by_admin = 25 [(google.api.field_behavior) = OUTPUT_ONLY];
  // Who answers for the instance; at most 40 of [A-Za-z0-9._:/@+-].
  string owner = 30 [(buf.validate.field).string = {
    max_len: 40
    pattern: "^[A-Za-z0-9._:/@+-]*$"
  }];
  // Share of the traffic, 0 to 100.
  uint32 share = 31 [(buf.validate.field).uint32.lte = 100];
`,
  );
  edit(PROTO, "    NodeDetail node = 24;\n", "    NodeDetail node = 24;\n    // Detail of a LOCK.\n    LockDetail lock = 32;\n");
  edit(PROTO, "  ENTRY_KIND_NODE = 6;\n", "  ENTRY_KIND_NODE = 6;\n  // A lock that one holds at a time.\n  ENTRY_KIND_LOCK = 7;\n");
  edit(
    PROTO,
    "// Additional data of an entry of kind NODE.\n",
    `// Additional data of an entry of kind LOCK.
message LockDetail {
  // Who holds it; at most 64, each 1 to 30 characters.
  repeated string holders = 1 [(buf.validate.field).repeated = {
    max_items: 64
    items: {
      string: {
        min_len: 1
        max_len: 30
      }
    }
  }];
  // How often it changed hands.
  uint64 fence = 2;
}

// Additional data of an entry of kind NODE.
`,
  );
  edit(KINDS, "  [KIND.NODE]: { dnsLabels: [] },\n", '  [KIND.NODE]: { dnsLabels: [] },\n  [KIND.LOCK]: { dnsLabels: ["_lock"] },\n');
}

/** A check that a TLS server is there: in the proto, its row, where it looks, its flag and the guide. */
function addCheckKind(): void {
  edit(
    PROTO,
    "// Opens a TCP connection and closes it again.\n",
    "// Makes a TLS connection.\nmessage TlsCheck {}\n\n// Opens a TCP connection and closes it again.\n",
  );
  edit(PROTO, "    AliasCheck alias = 10;\n", "    AliasCheck alias = 10;\n    // TLS.\n    TlsCheck tls = 11;\n");
  const [row, look, probe, prober, form, flag] = CHECK_FILES;
  const alias = "  alias: { looksAtTarget: false, failing: 3 },\n";
  edit(row, alias, `${alias}  tls: { looksAtTarget: true, failing: 3 },\n`);
  edit(look, '      case "tcp":\n', '      case "tcp":\n      case "tls":\n');
  edit(probe, '    | { readonly kind: "tcp" }\n', '    | { readonly kind: "tcp" }\n    | { readonly kind: "tls" }\n');
  const tcp = '    case "tcp":\n      return { ...connecting, kind: "tcp" };\n';
  edit(probe, tcp, tcp + tcp.replaceAll("tcp", "tls"));
  edit(
    prober,
    '    case "http": {\n',
    '    case "tls":\n      await secured(socket, probe.host, "h2", attempt);\n      return PASSED;\n    case "http": {\n',
  );
  edit(form, "} as const;\n", '  tls: { form: "tls", options: ["target", "interval", "timeout", "failing", "passing"] },\n} as const;\n');
  edit(flag, '    case "ttl":\n', '    case "ttl":\n    case "tls":\n');
  edit(
    "docs/guides/health.md",
    "| kind | passes when |\n| --- | --- |\n",
    "| kind | passes when |\n| --- | --- |\n| `tls` | a TLS connection can be made |\n",
  );
  edit("docs/guides/health.md", "| form | options |\n| --- | --- |\n", "| form | options |\n| --- | --- |\n| `tls` | those of `tcp` |\n");
}

test(
  "what is added is written down, and the generated files come of it",
  async () => {
    addFieldsAndKind();
    addCheckKind();
    expect(await faultOf("node", "scripts/gen.ts")).toBe("");
  },
  STEP_MS,
);

test("the generated files are fresh after that", { tags: ["night"], timeout: STEP_MS }, async () => {
  expect(await faultOf("node", "scripts/gen.ts", "--check")).toBe("");
});

// More checkers than one do the same work twice.
const compile = (project: string) => faultOf("tsc", "-p", project, "--checkers", "1");

test(
  "it compiles",
  async () => {
    expect(await compile("tsconfig.src.json")).toBe("");
  },
  STEP_MS,
);

test("tests, benchmarks and scripts compile too", { tags: ["night"], timeout: STEP_MS }, async () => {
  expect(await compile(".")).toBe("");
});

/** Their goldens list the kinds of entries and checks. */
const HELP = ["test/cli/completion.io.test.ts", "test/cli/run.io.test.ts"];

test(
  "the goldens gain lines, and no line that was there before changes",
  async () => {
    // The other tests of the command line run with the rooms below, and have nothing to update.
    const isGolden = (file: string) => /\.toMatch(?:File)?Snapshot\(/.test(readFileSync(join(copy, file), "utf8"));
    const goldens = isNight ? filesBelow(copy, "test/cli", [".test.ts"]).filter(isGolden) : HELP;
    expect(goldens).toEqual(expect.arrayContaining(HELP));
    const files = ["test/golden/entries.test.ts", ...goldens];
    expect(await faultOf("vitest", "run", "--project", "unit", "--project", "io", ...files, "--update")).toBe("");
    const file = "test/golden/bytes/entry-fields.txt";
    const [before, after] = [ROOT, copy].map((root) => readFileSync(join(root, file), "utf8").trim().split("\n"));
    expect(after?.filter((line) => !before?.includes(line)).map((line) => line.split(" ")[0])).toEqual([
      "owner",
      "share",
      "checks.tls",
      "lock",
      "lock.holders",
      "lock.fence",
    ]);
    expect(after).toEqual(expect.arrayContaining(before ?? []));
  },
  STEP_MS,
);

/** They look at each field, each kind of entry and each kind of check. */
const CLOSE = [
  "test/catalog/entry",
  "test/catalog/record/codec.test.ts",
  "test/catalog/record/traits.test.ts",
  "test/golden/entries.test.ts",
  "test/dns/names",
  "test/dns/records",
  "test/dns/subject/facts.test.ts",
  "test/dns/subject/subject.test.ts",
  "test/gen-codec.io.test.ts",
  "test/discovery/checks/checks.test.ts",
  "test/docs/check-kinds.test.ts",
];
const ROOMS = [
  "test/catalog/record",
  "test/catalog/query",
  "test/golden",
  ...["plan", "subject", "views", "wire"].map((folder) => `test/dns/${folder}`),
  "test/cli/",
  "test/discovery/checks",
];
const PROJECTS = ["unit", "io", "docs"].flatMap((project) => ["--project", project]);

test(
  "the tests that look at each field and kind hold, with the new ones in them",
  async () => {
    const found = await runs("vitest", "run", ...PROJECTS, "--reporter=verbose", ...CLOSE);
    expect(faultIn(found)).toBe("");
    for (const field of ["Entry.owner", "Entry.share", "LockDetail.holders", "LockDetail.fence"])
      expect(found.output).toContain(`${field} is refused exactly where the contract says`);
  },
  STEP_MS,
);

test("the other tests of their rooms hold too", { tags: ["night"], timeout: 2 * STEP_MS }, async () => {
  expect(await faultOf("vitest", "run", ...PROJECTS, ...ROOMS)).toBe("");
});

/** Runs in the copy, with its own sources. */
const READS = `import { expect, test } from "vitest";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { startNodeProcess } from "./fakes/node-process.ts";

const ON = join(import.meta.dirname, "checks-on.json");
writeFileSync(ON, JSON.stringify({ checks: { enabled: true, allowed: ["127.0.0.1"] } }));
const WEB = ["--namespace", "svc", "--name", "web", "--instance", "1", "--target", "127.0.0.1:1"];
const LOCK = "key: { kind: lock, namespace: svc, name: leader, instanceId: '1' }\\nowner: team-a\\nshare: 40\\nlock: { holders: [ann], fence: 7 }\\ntargets: [{ host: 10.0.0.1, port: 80 }]\\n";

test("an entry of the new kind with the new fields goes in by a file, and is read through a query, DNS and the metrics", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const ask = async (...args: readonly string[]) => node.run(args, LOCK);
  expect(await ask("apply", "-f", "-")).toMatchObject({ exit: 0 });
  const { stdout } = await ask("discovery", "query", "--kind", "lock", "-o", "json");
  expect(JSON.parse(stdout)).toMatchObject({ items: [{ owner: "team-a", share: 40, lock: { holders: ["ann"], fence: "7" } }] });
  expect((await ask("discovery", "query", "--kind", "node", "--namespace", "svc", "-o", "json")).stdout).not.toContain("team-a");
  expect((await ask("discovery", "query", "--kind", "lock")).stdout).toMatch(/svc +leader +lock /);
  expect((await ask("apply", "-f", "-", "--dry-run", "-o", "json")).stdout).toContain('"unchanged": 1');
  const wrong = await node.run(["apply", "-f", "-"], LOCK.replace("40", "101"));
  expect([wrong.exit, wrong.stderr]).toEqual([1, expect.stringContaining("share")]);
  const dns = await node.run(["dns", "resolve", "_lock._tcp.leader.svc.waymark", "SRV"]);
  expect(dns.stdout).toContain("80");
  expect((await (await fetch("http://" + node.listeners.http + "/metrics")).text())).toContain('waymark_catalog_entries{kind="lock",scope="zone"} 1');
});

test("a check of the new kind looks at its target, and the entry shows what it found", async () => {
  await using node = await startNodeProcess(["--ephemeral", "--config", ON]);
  const check = ["--check", "tls,interval=1s,failing=1"];
  expect(await node.run(["register", ...WEB, ...check])).toMatchObject({ exit: 0 });
  const stateOf = async () => (await node.run(["discovery", "query", "--namespace", "svc", "-o", "json"])).stdout;
  await expect.poll(stateOf, { timeout: 30_000 }).toContain("CHECK_FAILURE_REFUSED");
});
`;

test(
  "a query finds the entry by its kind and shows the fields, and files, DNS, metrics and the command line know them",
  async () => {
    writeFileSync(join(copy, "test/added.io.test.ts"), READS);
    expect(await faultOf("vitest", "run", "--project", "io", "test/added.io.test.ts")).toBe("");
  },
  STEP_MS,
);
