/**
 * What CONTRIBUTING.md says a new entry field, entry kind, kind of check and rpc cost is what they cost. In a copy of the repository one of each is
 * added by those steps alone. Then the checks and tests of their rooms hold, and nodes of the copy answer with all of it.
 *
 * @module-tag path
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesBelow } from "../../scripts/imports.ts";
import { ROOT, run } from "../../scripts/run.ts";
import { uncountedMetrics, unexplainedRoutes, untestedRpcs } from "../../scripts/tidy-tables.ts";
import { isNight } from "../fakes/effort.ts";
import { CommandProcess, type Finished, startNodeProcess } from "../fakes/node-process.ts";
import * as rpc from "./added-rpc.ts";

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
/** They name the new rpc, and are no tests of it. */
const NAMES_THE_RPC = [import.meta.filename, join(import.meta.dirname, "added-rpc.ts")];

let copy = "";

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "waymark-adding-"));
  for (const path of ["bench", "bin", "docs", "gen", "proto", "scripts", "src", "test", "third_party"])
    cpSync(join(ROOT, path), join(copy, path), { recursive: true, filter: (source) => !NAMES_THE_RPC.includes(source) });
  for (const file of [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "buf.gen.yaml",
    "buf.yaml",
    "knip.json",
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
  return run(command, args, { cwd: copy, env: { CI: "", TEST_EFFORT: "quick" } });
}

/** What a command says that fails, of a test run only what failed; empty for one that does not. */
const faultIn = ({ code, output }: { readonly code: number | null; readonly output: string }): string =>
  code === 0 ? "" : output.slice(Math.max(0, output.search(/Failed (Tests|Suites)|Unhandled Errors/)));

async function faultOf(command: string, ...args: readonly string[]): Promise<string> {
  return faultIn(await runs(command, ...args));
}

/** The section of CONTRIBUTING.md with this heading. */
const sectionOf = (heading: string): string => {
  const [, after = ""] = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8").split(`\n### ${heading}\n`);
  const [section = ""] = after.split(/\n#{2,3} /);
  return section;
};

test("the steps of this test are those of CONTRIBUTING.md", () => {
  const filesOf = (what: string) => {
    const [steps = ""] = sectionOf(what).split("Optional:");
    return [...steps.matchAll(/`((?:proto|src)\/[^`]+)`/g)].map(([, file]) => file);
  };
  expect(filesOf("An entry field")).toEqual([PROTO]);
  expect(filesOf("An entry kind")).toEqual([PROTO, KINDS]);
  expect(filesOf("A kind of check")).toEqual([PROTO, ...CHECK_FILES]);
  for (const what of ["An entry field", "An entry kind", "A kind of check"])
    for (const step of ["`npm run gen`", "`npm run golden`"]) expect(sectionOf(what)).toContain(step);
  const steps = ["An rpc", "A service", "A route", "A metric", "A CLI verb or flag"].map((what) => sectionOf(what)).join();
  for (const file of [rpc.NODE, rpc.METRICS, rpc.PAGE]) expect(steps).toContain(`\`${file}\``);
  for (const place of ["proto", "`src/services/`", "`src/cli/verbs/`", "`VERBS`", "from a test"]) expect(steps).toContain(place);
  expect(rpc.ADDED, "files of an rpc that are made by hand").toHaveLength(8);
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
    "// Opens a TCP connection and closes it again. The check passes if the connection can be opened.\n",
    "// Makes a TLS connection.\nmessage TlsCheck {}\n\n// Opens a TCP connection and closes it again. The check passes if the connection can be opened.\n",
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

/** A file of the rpc: a new one, or one of the repository with lines more. */
function addRpcFile(file: string): void {
  let text = rpc.FILES[file] ?? readFileSync(join(ROOT, file), "utf8");
  for (const { before, text: inserted } of rpc.INSERTS[file] ?? []) {
    expect(text.split(before), `${file}: ${before}`).toHaveLength(2);
    text = text.replace(before, () => inserted + before);
  }
  mkdirSync(dirname(join(copy, file)), { recursive: true });
  writeFileSync(join(copy, file), text);
}

function leaveOut(file: string): void {
  if (rpc.FILES[file] === undefined) cpSync(join(ROOT, file), join(copy, file));
  else rmSync(join(copy, file));
}

test("what is added is written down, and the generated files come of it", { timeout: STEP_MS }, async () => {
  addFieldsAndKind();
  addCheckKind();
  for (const file of rpc.ADDED) addRpcFile(file);
  expect(await faultOf("node", "scripts/gen.ts")).toBe("");
});

test("the generated files are fresh after that", { tags: ["night"], timeout: STEP_MS }, async () => {
  expect(await faultOf("node", "scripts/gen.ts", "--check")).toBe("");
});

// More checkers than one do the same work twice.
const compile = (project = "tsconfig.src.json") =>
  faultOf("tsc", "-p", project, "--checkers", "1", "--incremental", "--tsBuildInfoFile", `${project}.tsbuildinfo`);

test("it compiles, and tidy finds nothing", { timeout: STEP_MS }, async () => {
  expect(await compile()).toBe("");
  expect([unexplainedRoutes(copy, ["/control/tide"]), untestedRpcs(copy, ["ShowTide"])]).toEqual([[], []]);
  expect(uncountedMetrics(copy, ["waymark_tides_total"])).toEqual([]);
});

test("tests, benchmarks and scripts compile too", { tags: ["night"], timeout: STEP_MS }, async () => {
  expect(await compile("tsconfig.json")).toBe("");
});

/** Their goldens list the kinds of entries and checks, and the verbs. */
const HELP = ["test/cli/completion.io.test.ts", "test/cli/run.io.test.ts"];
/** They look at each field, each kind of entry, each kind of check and each rpc. */
const CLOSE = [
  "test/catalog/entry",
  "test/catalog/record/codec.test.ts",
  "test/catalog/record/traits.test.ts",
  "test/golden/entries.test.ts",
  "test/dns/names",
  "test/dns/records",
  "test/dns/subject/dependency-index.test.ts",
  "test/dns/subject/subject.test.ts",
  "test/gen-codec.io.test.ts",
  "test/discovery/checks/checks.test.ts",
  "test/docs/check-kinds.test.ts",
  "test/services/answered-by.test.ts",
  "test/contract/protos.test.ts",
  rpc.TEST,
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
const FIELDS_GOLDEN = "test/golden/bytes/entry-fields.txt";

test("tests that look at each of these hold, and the goldens gain lines for what is new alone", { timeout: STEP_MS }, async () => {
  const isGolden = (file: string) => /\.toMatch(?:File)?Snapshot\(/.test(readFileSync(join(copy, file), "utf8"));
  // The other tests of the command line have nothing to update, and run at night.
  const goldens = isNight ? filesBelow(copy, "test/cli", [".test.ts"]).filter(isGolden) : HELP;
  expect(goldens).toEqual(expect.arrayContaining(HELP));
  const before = textsBelow(join(copy, "test"));
  const found = await runs("vitest", "run", ...PROJECTS, "--reporter=verbose", ...CLOSE, ...goldens, "--update");
  expect(faultIn(found)).toBe("");
  for (const field of ["Entry.owner", "Entry.share", "LockDetail.holders", "LockDetail.fence"])
    expect(found.output).toContain(`${field} is refused exactly where the contract says`);
  const changed = [...textsBelow(join(copy, "test"))].filter(([file, text]) => before.get(file) !== text);
  const isOfHelp = (file: string) => file.startsWith("test/golden/cli/");
  expect(changed.map(([file]) => `test/${file}`).filter((file) => !isOfHelp(file))).toEqual([FIELDS_GOLDEN]);
  const [old, now] = [ROOT, copy].map((root) => readFileSync(join(root, FIELDS_GOLDEN), "utf8").trim().split("\n"));
  expect(now?.filter((line) => !old?.includes(line)).map((line) => line.split(" ")[0])).toEqual([
    "owner",
    "share",
    "checks.tls",
    "lock",
    "lock.holders",
    "lock.fence",
  ]);
  expect(now).toEqual(expect.arrayContaining(old ?? []));
});

function textsBelow(folder: string): ReadonlyMap<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files.map(({ parentPath, name }) => join(parentPath, name)).map((file) => [relative(folder, file), readFileSync(file, "latin1")]),
  );
}

test("the other tests of their rooms hold too", { tags: ["night"], timeout: 2 * STEP_MS }, async () => {
  expect(await faultOf("vitest", "run", ...PROJECTS, ...ROOMS)).toBe("");
});

/** A node or a resolver of the copy. */
async function startCopy(...flags: readonly string[]) {
  const program = join(copy, "bin/waymark");
  const node = await startNodeProcess(["--ephemeral", ...flags], [], () => {}, program);
  return {
    grpc: node.grpc,
    get: async (path: string) => (await fetch(`http://${node.listeners["http"]}${path}`)).text(),
    run: async (args: readonly string[], input?: string): Promise<Finished> => {
      await using asked = new CommandProcess([...args, "--server", node.grpc], input, [], program);
      return await asked.finished();
    },
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
  };
}

const LOCK = `key: { kind: lock, namespace: svc, name: leader, instanceId: '1' }
owner: team-a
share: 40
lock: { holders: [ann], fence: 7 }
targets: [{ host: 10.0.0.1, port: 80 }]
`;

test("an entry of the new kind with the new fields goes in by a file, and is read through a query, DNS and the metrics", {
  timeout: STEP_MS,
}, async () => {
  await using node = await startCopy();
  expect(await node.run(["apply", "-f", "-"], LOCK)).toMatchObject({ exit: 0 });
  const { stdout } = await node.run(["discovery", "query", "--kind", "lock", "-o", "json"]);
  expect(JSON.parse(stdout)).toMatchObject({ items: [{ owner: "team-a", share: 40, lock: { holders: ["ann"], fence: "7" } }] });
  expect((await node.run(["discovery", "query", "--kind", "node", "--namespace", "svc", "-o", "json"])).stdout).not.toContain("team-a");
  expect((await node.run(["discovery", "query", "--kind", "lock"])).stdout).toMatch(/svc +leader +lock /);
  expect((await node.run(["apply", "-f", "-", "--dry-run", "-o", "json"], LOCK)).stdout).toContain('"unchanged": 1');
  const wrong = await node.run(["apply", "-f", "-"], LOCK.replace("40", "101"));
  expect([wrong.exit, wrong.stderr]).toEqual([1, expect.stringContaining("share")]);
  const dns = await node.run(["dns", "resolve", "_lock._tcp.leader.svc.waymark", "SRV"]);
  expect(dns.stdout).toContain("80");
  expect(await node.get("/metrics")).toContain('waymark_catalog_entries{kind="lock",scope="zone"} 1');
});

test("a check of the new kind looks at its target, and the entry shows what it found", { timeout: STEP_MS }, async () => {
  const settings = join(copy, "checks-on.json");
  writeFileSync(settings, JSON.stringify({ checks: { enabled: true, allowed: ["127.0.0.1"] } }));
  await using node = await startCopy("--config", settings);
  const web = ["--namespace", "svc", "--name", "web", "--instance", "1", "--target", "127.0.0.1:1"];
  expect(await node.run(["register", ...web, "--check", "tls,interval=1s,failing=1"])).toMatchObject({ exit: 0 });
  const stateOf = async () => (await node.run(["discovery", "query", "--namespace", "svc", "-o", "json"])).stdout;
  await expect.poll(stateOf, { timeout: 30_000 }).toContain("CHECK_FAILURE_REFUSED");
});

test("with read workers a node answers the rpc, the route and the verb and counts them, and a resolver passes the rpc on", {
  timeout: STEP_MS,
}, async () => {
  await using node = await startCopy("--workers", "1");
  await using resolver = await startCopy("--mode", "resolver", "--upstream", node.grpc);
  expect(JSON.parse(await node.get("/control/tide"))).toEqual({ heightCm: 42 });
  for (const asked of [node, resolver]) {
    const said = await asked.run(["mesh", "tide", "-o", "json"]);
    expect(said).toMatchObject({ exit: 0, stdout: expect.stringContaining('"heightCm": 42') as string });
  }
  expect(await node.get("/metrics")).toContain("waymark_tides_total 3");
});

test("the compiler names a service, a metric or the function of a verb that is left out, and a proto or a file of a service", {
  tags: ["night"],
  timeout: STEP_MS,
}, async () => {
  for (const file of [rpc.NODE, rpc.METRICS, rpc.VERB]) leaveOut(file);
  const fault = await compile();
  expect(fault).toMatch(/src\/node\/node\.io\.ts.*error TS2741: Property 'TideService' is missing/);
  expect(fault).toMatch(/src\/services\/control\/tide\.ts.*"waymark_tides_total"/);
  expect(fault).toMatch(/src\/cli\/table\/mesh\.ts.*tide\.ts/);
  for (const file of [rpc.NODE, rpc.METRICS, rpc.VERB]) addRpcFile(file);
  leaveOut(rpc.SERVICE);
  for (const ending of ["js", "d.ts"]) rmSync(join(copy, `gen/waymark/control/v1/tide_pb.${ending}`));
  const without = await compile();
  expect(without).toMatch(/src\/node\/node\.io\.ts.*control\/tide\.ts/);
  expect(without).toMatch(/src\/cli\/verbs\/tide\.ts.*tide_pb\.js/);
  addRpcFile(rpc.SERVICE);
});

test("a row of a verb, a page and a test that are left out are found, and a metric that nothing counts", {
  tags: ["night"],
  timeout: STEP_MS,
}, async () => {
  for (const file of [rpc.ROW, rpc.PAGE, rpc.TEST]) leaveOut(file);
  expect(await faultOf("knip", "--no-progress", "--include", "files")).toContain(rpc.VERB);
  expect(unexplainedRoutes(copy, ["/control/tide"])).toEqual(["/control/tide"]);
  expect(untestedRpcs(copy, ["ShowTide"])).toEqual(["ShowTide"]);
  leaveOut(rpc.NODE);
  expect(uncountedMetrics(copy, ["waymark_tides_total"])).toEqual(["waymark_tides_total"]);
});
