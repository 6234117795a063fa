/** The work of one Resolve. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type ResolveRequest, ResolveRequestSchema, type ResolveResponse } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { CatalogReads } from "../../../src/discovery/reads.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { NO_POLICY } from "../../../src/policy/set/verdict.ts";
import { resolveHandler } from "../../../src/services/discovery/resolve.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import type { CallContext } from "../../../src/services/service.ts";
import { decodedChars, largeFields } from "../../fakes/decoded-text.ts";
import { at, caller, draftAt, Registry } from "../../fakes/registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };

test("a choice among large entries decodes only what it depends on", () => {
  const r = new Registry();
  const drafts = Array.from({ length: 1_000 }, (_, i) =>
    draftAt({ namespace: "svc", name: "web", instanceId: `${i}` }, { ...largeFields(), targets: [{ host: "10.0.0.1", port: 80 + i }] }),
  );
  r.register("ann", drafts, at(0), { isStatic: true });
  const loads = { of: () => undefined };
  const handler = resolveHandler({
    reads: new CatalogReads(r.replica, NODE, { policies: { policy: NO_POLICY }, onDenied: () => {} }),
    bytes: new DiscoveryBytes(r.replica.slab, loads),
    loads,
    identity: { ...NODE, zone: "z1" },
    mesh: { ageMs: () => 0, unreachable: () => undefined },
    checkCaughtUp: () => {},
    allowsViewerOverride: false,
    random: () => 0,
    metrics: new Metrics(),
  });
  if (handler.kind !== "unary") throw new Error(handler.kind);
  const handle = handler.handle as (request: ResolveRequest, context: CallContext) => ResolveResponse;
  const request = create(ResolveRequestSchema, { namespace: "svc", name: "web" });
  let answer: ResolveResponse | undefined;
  const chars = decodedChars(() => {
    answer = handle(request, { caller: caller("ann"), time: at(0), requestId: "r" });
  });
  expect([answer?.entry?.tags.length, answer?.alternatives.length]).toEqual([50, 4]);
  expect(chars / drafts.length).toBeLessThan(100);
});
