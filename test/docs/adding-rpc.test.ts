/**
 * A service with an rpc, a route, a verb, a metric and a page costs the eight files that CONTRIBUTING.md names: in a copy of the repository it is added
 * by these steps alone. A read worker and a resolver answer it, and the checks of `npm run quick` find each file that is left out.
 * @module-tag night
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT, run } from "../../scripts/run.ts";
import { uncountedMetrics, unexplainedRoutes, untestedRpcs } from "../../scripts/tidy-tables.ts";
import { CommandProcess, startNodeProcess } from "../fakes/node-process.ts";

/** Against a step that hangs. On a machine with other work the slowest took 249 s. */
const STEP_MS = 600_000;

/** What is made by hand: whole files, and lines that are put before others. */
const PROTO = "proto/waymark/control/v1/tide.proto";
const SERVICE = "src/services/control/tide.ts";
const NODE = "src/node/node.io.ts";
const METRICS = "src/lib/metrics/metrics.ts";
const ROW = "src/cli/table/mesh.ts";
const VERB = "src/cli/verbs/tide.ts";
const PAGE = "docs/guides/operations.md";
const TEST = "test/services/control/tide.test.ts";

const FILES: Readonly<Record<string, string>> = {
  [PROTO]: `syntax = "proto3";

package waymark.control.v1;

import "waymark/options/v1/options.proto";

option go_package = "waymark.dev/go/control/v1;controlv1";
option java_multiple_files = true;
option java_outer_classname = "TideProto";
option java_package = "dev.waymark.control.v1";

// The tide at the serving node.
service TideService {
  // Returns the height of the tide. Needs the role mesh.read.
  rpc ShowTide(ShowTideRequest) returns (ShowTideResponse) {
    option (waymark.options.v1.access) = {role: ROLE_MESH_READ};
    option (waymark.options.v1.call) = {
      cost: COST_READ
      answered_by: ANSWERED_BY_NODE
      routes: "/control/tide"
    };
  }
}

// Request of TideService.ShowTide.
message ShowTideRequest {}

// Response of TideService.ShowTide.
message ShowTideResponse {
  // The height in cm.
  uint32 height_cm = 1;
}
`,
  [SERVICE]: `/** waymark.control.v1.TideService: the tide at this node. */
import { create, toJson } from "@bufbuild/protobuf";
import { ShowTideResponseSchema, TideService } from "../../../gen/waymark/control/v1/tide_pb.js";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { HandlersOf, Service } from "../service.ts";

export function tideService(metrics: Pick<Metrics, "inc">): Service {
  const show = () => {
    metrics.inc("waymark_tides_total", {});
    return create(ShowTideResponseSchema, { heightCm: 42 });
  };
  const handlers: HandlersOf<typeof TideService> = { showTide: { kind: "unary", handle: show } };
  const answer = () => ({ kind: "page", page: toJson(ShowTideResponseSchema, show()) }) as const;
  return { desc: TideService, handlers, routes: [{ path: "/control/tide", parameters: [], rpc: "showTide", answer }] };
}
`,
  [VERB]: `/** \`mesh tide\`: the tide at the serving node. */
import { TideService } from "../../../gen/waymark/control/v1/tide_pb.js";
import type { Verb } from "../table/verb.ts";

export const tide: Verb = async ({ out, client }) => {
  const { heightCm } = await client().call(TideService.method.showTide, {});
  out.json({ heightCm });
  if (!out.isMachine) out.note(\`the tide is \${heightCm} cm high\`);
};
`,
  [TEST]: `/** The tide at a node. */
import { expect, test } from "vitest";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { tideService } from "../../../src/services/control/tide.ts";

test("the tide has a height", () => {
  const { showTide } = tideService(new Metrics()).handlers;
  if (showTide?.kind !== "unary") throw new Error("showTide is unary");
  expect(showTide.handle({} as never, {} as never)).toMatchObject({ heightCm: 42 });
});
`,
};

interface Insert {
  readonly before: string;
  readonly text: string;
}

const INSERTS: Readonly<Record<string, readonly Insert[]>> = {
  [NODE]: [
    { before: "    PeerService: peerService(", text: "    TideService: tideService(metrics),\n" },
    { before: "import { type PeerParts, peerService } from", text: 'import { tideService } from "../services/control/tide.ts";\n' },
  ],
  [METRICS]: [
    { before: "  waymark_leases: gauge(", text: '  waymark_tides_total: counter("calls", {}, "Calls that asked for the tide."),\n' },
  ],
  [ROW]: [
    {
      before: '  memberVerb("mesh peers get"),\n',
      text: `  {
    path: "mesh tide",
    summary: "The tide at the serving node.",
    examples: [["mesh tide", "show its height"]],
    load: async () => (await import("../verbs/tide.ts")).tide,
  },
`,
    },
  ],
  [PAGE]: [{ before: "- these GET routes for the role `mesh.read`:", text: "- `/control/tide` for the role `mesh.read`: the tide.\n" }],
};

const ADDED = [PROTO, SERVICE, NODE, METRICS, ROW, VERB, PAGE, TEST];

let copy = "";

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "waymark-rpc-"));
  // This file names the rpc, and is no test of it.
  for (const path of ["bench", "bin", "docs", "gen", "proto", "scripts", "src", "test", "third_party"])
    cpSync(join(ROOT, path), join(copy, path), { recursive: true, filter: (source) => source !== import.meta.filename });
  for (const file of [
    "CONTRIBUTING.md",
    "README.md",
    "buf.gen.yaml",
    "buf.yaml",
    "knip.json",
    "package.json",
    "tsconfig.json",
    "vitest.config.ts",
  ])
    cpSync(join(ROOT, file), join(copy, file));
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  for (const file of ADDED) add(file);
});

afterAll(() => {
  rmSync(copy, { recursive: true, force: true });
});

function add(file: string): void {
  let text = FILES[file] ?? readFileSync(join(ROOT, file), "utf8");
  for (const { before, text: inserted } of INSERTS[file] ?? []) {
    expect(text.split(before), `${file}: ${before}`).toHaveLength(2);
    text = text.replace(before, () => inserted + before);
  }
  mkdirSync(dirname(join(copy, file)), { recursive: true });
  writeFileSync(join(copy, file), text);
}

function leaveOut(file: string): void {
  if (FILES[file] === undefined) cpSync(join(ROOT, file), join(copy, file));
  else rmSync(join(copy, file));
}

/** What a command says that fails; empty for one that does not. */
async function faultOf(command: string, ...args: readonly string[]): Promise<string> {
  const { code, output } = await run(command, args, { cwd: copy, env: { CI: "" } });
  return code === 0 ? "" : output;
}

const compile = () => faultOf("tsc", "-p", ".", "--checkers", "1", "--incremental", "--tsBuildInfoFile", "types.tsbuildinfo");

test("the steps of this test are those of CONTRIBUTING.md, and eight files are made by hand", () => {
  const rows = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8").split("\n");
  const stepsOf = (what: string) => rows.find((row) => row.startsWith(`| ${what} |`))?.split("|")[2] ?? "";
  const steps = ["an rpc", "a service", "a GET route", "a metric", "a CLI verb"].map(stepsOf).join();
  for (const file of [NODE, METRICS, PAGE]) expect(steps).toContain(`\`${file}\``);
  for (const place of ["proto", "`src/services/`", "`src/cli/verbs/`", "`VERBS`", "· test"]) expect(steps).toContain(place);
  expect(ADDED).toHaveLength(8);
});

test(
  "the generated files come of it, it compiles, and tidy and its test find nothing",
  async () => {
    expect(await faultOf("node", "scripts/gen.ts")).toBe("");
    expect(await compile()).toBe("");
    expect([unexplainedRoutes(copy, ["/control/tide"]), untestedRpcs(copy, ["ShowTide"])]).toEqual([[], []]);
    expect(uncountedMetrics(copy, ["waymark_tides_total"])).toEqual([]);
    expect(
      await faultOf("vitest", "run", "--project", "unit", TEST, "test/services/answered-by.test.ts", "test/contract/protos.test.ts"),
    ).toBe("");
  },
  STEP_MS,
);

test(
  "with read workers a node answers the rpc, the route and the verb and counts them, and a resolver passes the rpc on",
  async () => {
    const program = join(copy, "bin/waymark");
    const start = (...flags: readonly string[]) => startNodeProcess(["--ephemeral", ...flags], [], () => {}, program);
    await using node = await start("--workers", "1");
    await using resolver = await start("--mode", "resolver", "--upstream", node.grpc);
    const get = async (path: string) => (await fetch(`http://${node.listeners["http"]}${path}`)).text();
    expect(JSON.parse(await get("/control/tide"))).toEqual({ heightCm: 42 });
    for (const { grpc } of [node, resolver]) {
      await using asked = new CommandProcess(["mesh", "tide", "-o", "json", "--server", grpc], "", [], program);
      expect(await asked.finished()).toMatchObject({ exit: 0, stdout: expect.stringContaining('"heightCm": 42') as string });
    }
    expect(await get("/metrics")).toContain("waymark_tides_total 3");
  },
  STEP_MS,
);

test(
  "the compiler names a service, a metric or the function of a verb that is left out, and a proto or a file of a service",
  async () => {
    for (const file of [NODE, METRICS, VERB]) leaveOut(file);
    const fault = await compile();
    expect(fault).toMatch(/src\/node\/node\.io\.ts.*error TS2741: Property 'TideService' is missing/);
    expect(fault).toMatch(/src\/services\/control\/tide\.ts.*"waymark_tides_total"/);
    expect(fault).toMatch(/src\/cli\/table\/mesh\.ts.*tide\.ts/);
    for (const file of [NODE, METRICS, VERB]) add(file);
    leaveOut(SERVICE);
    for (const ending of ["js", "d.ts"]) rmSync(join(copy, `gen/waymark/control/v1/tide_pb.${ending}`));
    const without = await compile();
    expect(without).toMatch(/src\/node\/node\.io\.ts.*control\/tide\.ts/);
    expect(without).toMatch(/src\/cli\/verbs\/tide\.ts.*tide_pb\.js/);
    add(SERVICE);
  },
  STEP_MS,
);

test(
  "a row of a verb, a page and a test that are left out are found, and a metric that nothing counts",
  async () => {
    for (const file of [ROW, PAGE, TEST]) leaveOut(file);
    expect(await faultOf("knip", "--no-progress", "--include", "files")).toContain(VERB);
    expect(unexplainedRoutes(copy, ["/control/tide"])).toEqual(["/control/tide"]);
    expect(untestedRpcs(copy, ["ShowTide"])).toEqual(["ShowTide"]);
    leaveOut(NODE);
    expect(uncountedMetrics(copy, ["waymark_tides_total"])).toEqual(["waymark_tides_total"]);
  },
  STEP_MS,
);
