/** What a resolver asks its upstream for, and remembers. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ListPeersRequestSchema, type ListPeersResponse, ListPeersResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PassedOn } from "../../src/services/resolving/passed-on.ts";

/** Asks for peers `count` times at once. `stale`: what the upstream says of its answer. */
async function asked(count: number, stale: boolean) {
  let calls = 0;
  const call = async () => {
    calls += 1;
    await Promise.resolve();
    return create(ListPeersResponseSchema, { stale });
  };
  const now = () => ({ monoMs: 0, wallMs: 0 });
  const passedOn = new PassedOn({ ports: { call } as never, servedBy: "me", now, holders: () => Promise.resolve(new Set()) });
  const { listPeers } = passedOn.handlers;
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
