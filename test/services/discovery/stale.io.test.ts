/** What an answer says of its source, and from which age on it is called stale. */
import { create, fromBinary, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot, Source } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  CatalogWatchRequestSchema,
  CatalogWatchResponseSchema,
  ClusterMapRequestSchema,
  ListPeersRequestSchema,
  NamespaceStatusRequestSchema,
  RegisterRequestSchema,
  ResolveRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { assert } from "../../../src/lib/errors.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";

const CALLER: Caller = { principal: "p", tenant: "", cluster: "local", roles: ["mesh.admin"], isAuthenticated: true, address: "127.0.0.1" };
const KEY = { kind: EntryKind.SERVICE, namespace: "svc", name: "web", instanceId: "1" };

let inside: DiscoveryInside;
beforeEach(async () => {
  inside = await startDiscovery();
  await ask("register", create(RegisterRequestSchema, { entries: [{ key: KEY }], staticLease: true }));
});
afterEach(() => inside.stop());

function ask(method: string, request: Message): unknown {
  const handler = inside.service.handlers[method];
  assert(handler?.kind === "unary", "a unary method", { method });
  return handler.handle(request as never, { caller: CALLER, time: inside.now(), requestId: "" });
}

/** The first END of a watch. */
function endOf(request: MessageInitShape<typeof CatalogWatchRequestSchema>) {
  const handler = inside.service.handlers["catalogWatch"];
  assert(handler?.kind === "server_streaming", "a stream");
  const time = inside.now();
  const source = handler.open(create(CatalogWatchRequestSchema, request) as never, { caller: CALLER, time, requestId: "" });
  for (let bytes = source.pull(time); bytes !== undefined; bytes = source.pull(time)) {
    const message = fromBinary(CatalogWatchResponseSchema, bytes);
    if (message.snapshot === Snapshot.END) return message;
  }
  return undefined;
}

const READS: Readonly<Record<string, () => unknown>> = {
  catalogQuery: async () => {
    const bytes = await ask("catalogQuery", create(CatalogQueryRequestSchema, { namespace: "svc" }));
    assert(bytes instanceof Uint8Array, "an encoded answer");
    return fromBinary(CatalogQueryResponseSchema, bytes);
  },
  catalogWatch: () => endOf({ namespace: "svc" }),
  resolve: () => ask("resolve", create(ResolveRequestSchema, { namespace: "svc", name: "web" })),
  clusterMap: () => ask("clusterMap", create(ClusterMapRequestSchema)),
  listPeers: () => ask("listPeers", create(ListPeersRequestSchema)),
  namespaceStatus: () => ask("namespaceStatus", create(NamespaceStatusRequestSchema, { namespace: "svc" })),
};

test.each(Object.keys(READS))("%s says that a replica answered, and is stale when its data is older than a minute", async (method) => {
  for (const [ageMs, stale] of [
    [0, false],
    [60_000, false],
    [60_001, true],
    // Unknown ages are counted from 1970.
    [Date.parse("2026-01-01"), true],
  ] as const) {
    inside.freshness.ageMs = ageMs;
    expect(await READS[method]?.()).toMatchObject({ stale, source: Source.REPLICA });
  }
});
