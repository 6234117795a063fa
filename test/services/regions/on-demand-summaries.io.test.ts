/** SummaryQuery, SummaryWatch and `/discovery/summary` of a node without cluster keys. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { HealthBand } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { RegisterRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  SummaryQueryRequestSchema,
  type SummaryQueryResponse,
  SummaryWatchRequestSchema,
} from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import type { RouteParameters } from "../../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";

let inside: DiscoveryInside;
beforeEach(async () => {
  inside = await startDiscovery();
});
afterEach(() => inside.stop());

const context = () => ({ caller: anonymousCaller("local", "127.0.0.1"), time: inside.now(), requestId: "r" });

async function call(method: "register" | "summaryQuery", request: object): Promise<unknown> {
  const handler = inside.service.handlers[method];
  if (handler?.kind !== "unary") throw new Error("there is no such method");
  return handler.handle(request as never, context());
}

async function query(request: MessageInitShape<typeof SummaryQueryRequestSchema> = {}): Promise<SummaryQueryResponse> {
  return (await call("summaryQuery", create(SummaryQueryRequestSchema, request))) as SummaryQueryResponse;
}

async function page(parameters: RouteParameters): Promise<unknown> {
  const route = inside.service.routes?.find(({ path }) => path === "/discovery/summary");
  const answer = await route?.answer?.(parameters, context());
  return answer?.kind === "page" ? answer.page : undefined;
}

const GLOBAL_REFUSED = /^summaries_disabled: .*GLOBAL.*summary\.keys/;

test("the services of the node's cluster have unsigned summaries, and HTTP gives the same", async () => {
  const entries = [HealthStatus.HEALTHY, HealthStatus.CRITICAL].map((health, i) => ({
    key: { namespace: "svc.market", name: "web", instanceId: `${i}` },
    scope: Scope.REGION,
    health,
  }));
  await call("register", create(RegisterRequestSchema, { entries, staticLease: true }));
  const { items, servedBy, generatedAt, stale } = await query();
  const { nodeId } = inside.core.identity;
  expect([servedBy, stale, generatedAt === undefined]).toEqual([nodeId, false, false]);
  const said = { namespace: "svc.market", serviceId: "web", endpointCount: 2, sourceCluster: "local", exporter: nodeId, version: 0n };
  const unsigned = { signature: new Uint8Array(), signedBytes: new Uint8Array(), keyId: "" };
  expect(items).toMatchObject([
    { ...said, ...unsigned, scope: Scope.ZONE, ttl: { seconds: 30n }, healthBand: HealthBand.DEGRADED },
    { ...said, ...unsigned, scope: Scope.REGION, ttl: { seconds: 60n }, healthBand: HealthBand.DEGRADED },
  ]);
  expect(await page({ scope: "region" })).toMatchObject({ items: [{ serviceId: "web", scope: "SCOPE_REGION", endpointCount: 2 }] });
  expect((await query({ scope: Scope.REGION })).items).toHaveLength(1);
  const first = await query({ limit: 1 });
  expect(first.items).toMatchObject([{ scope: Scope.ZONE }]);
  expect((await query({ limit: 1, pageToken: first.nextPageToken })).items).toMatchObject([{ scope: Scope.REGION }]);
});

test("the refusal of a query for scope GLOBAL names the missing setting, over gRPC and HTTP", async () => {
  await expect(query({ scope: Scope.GLOBAL })).rejects.toThrow(GLOBAL_REFUSED);
  await expect(page({ scope: "global" })).rejects.toThrow(GLOBAL_REFUSED);
});

test("the refusals of a watch and of a query for a resolver name the missing setting", async () => {
  const handler = inside.service.handlers["summaryWatch"];
  if (handler?.kind !== "server_streaming") throw new Error("there is no such method");
  const open = () => handler.open(create(SummaryWatchRequestSchema) as never, context());
  expect(open).toThrow(/^summaries_disabled: .*summary\.keys/);
  await expect(query({ forResolver: true })).rejects.toThrow(/^summaries_disabled: .*summary\.keys/);
});
