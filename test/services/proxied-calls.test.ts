/** What a resolver asks its upstream for, and remembers. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  ClusterMapResponseSchema,
  ListPeersRequestSchema,
  type ListPeersResponse,
  ListPeersResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { ProxiedCalls } from "../../src/services/resolving/proxied-calls.ts";

/** Asks for peers `count` times at once. `stale`: what the upstream says of its answer. */
async function asked(count: number, stale: boolean) {
  let calls = 0;
  const call = async () => {
    calls += 1;
    await Promise.resolve();
    return create(ListPeersResponseSchema, { stale });
  };
  const now = () => ({ monoMs: 0, wallMs: 0 });
  const proxied = new ProxiedCalls({ ports: { call } as never, servedBy: "me", now, holders: () => Promise.resolve(new Set()) });
  const { listPeers } = proxied.handlers;
  if (listPeers.kind !== "unary") throw new TypeError("a unary method");
  const answer = () => listPeers.handle(create(ListPeersRequestSchema) as never, {} as never) as Promise<ListPeersResponse>;
  const answers = await Promise.all(Array.from({ length: count }, answer));
  return { calls, stale: answers.map((one) => one.stale) };
}

test("many callers at once cost the upstream one call", async () => {
  expect((await asked(3, false)).calls).toBe(1);
});

test("what the upstream calls stale is stale here", async () => {
  expect([await asked(1, false), await asked(1, true)].map(({ stale }) => stale)).toEqual([[false], [true]]);
});

test("the age of an answer is counted from the request, however late it arrives, also for callers that share the call", async () => {
  let monoMs = 0;
  const arriving = Promise.withResolvers<ListPeersResponse>();
  const ports = { call: () => arriving.promise } as never;
  const now = () => ({ monoMs, wallMs: 0 });
  const { listPeers } = new ProxiedCalls({ ports, servedBy: "me", now, holders: () => Promise.resolve(new Set()) }).handlers;
  if (listPeers.kind !== "unary") throw new TypeError("a unary method");
  const ask = () => listPeers.handle(create(ListPeersRequestSchema) as never, {} as never) as Promise<ListPeersResponse>;
  const answers = [ask()];
  monoMs = 2000;
  answers.push(ask());
  monoMs = 5000;
  arriving.resolve(create(ListPeersResponseSchema, { age: durationFromMs(20) }));
  expect((await Promise.all(answers)).map(({ age }) => age)).toEqual([durationFromMs(5020), durationFromMs(5020)]);
});

test("callers that are sent upstream are never sent to another region", async () => {
  const requests: unknown[] = [];
  const call = (_: unknown, request: unknown) => {
    requests.push(request);
    const detail = { case: "node" as const, value: { advertisedUrls: ["grpc://n1:1"] } };
    return Promise.resolve(create(ClusterMapResponseSchema, { nodes: [{ detail }] }));
  };
  const now = () => ({ monoMs: 0, wallMs: 0 });
  const proxied = new ProxiedCalls({ ports: { call } as never, servedBy: "me", now, holders: () => Promise.resolve(new Set()) });
  expect(await proxied.urls()).toEqual(["grpc://n1:1"]);
  expect(requests).toMatchObject([{ scope: Scope.REGION }]);
});
