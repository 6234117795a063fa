/** A service with an rpc, a route, a verb, a metric and a page, as adding.test.ts adds it: the eight files that CONTRIBUTING.md names. */

/** What is made by hand: whole files, and lines that are put before others. */
const PROTO = "proto/waymark/control/v1/tide.proto";
export const SERVICE = "src/services/control/tide.ts";
export const NODE = "src/node/node.io.ts";
export const METRICS = "src/lib/metrics/metrics.ts";
export const ROW = "src/cli/table/mesh.ts";
export const VERB = "src/cli/verbs/tide.ts";
export const PAGE = "docs/guides/operations.md";
export const TEST = "test/services/control/tide.test.ts";

export const FILES: Readonly<Record<string, string>> = {
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
import type { HandlersOf, ServiceDefinition } from "../service.ts";

export function tideService(metrics: Pick<Metrics, "inc">): ServiceDefinition {
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
import type { VerbFunction } from "../table/verb.ts";

export const tide: VerbFunction = async ({ out, client }) => {
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

export const INSERTS: Readonly<Record<string, readonly Insert[]>> = {
  [NODE]: [
    { before: "    PeerService: peerService(", text: "    TideService: tideService(core.metrics),\n" },
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

export const ADDED = [PROTO, SERVICE, NODE, METRICS, ROW, VERB, PAGE, TEST];
