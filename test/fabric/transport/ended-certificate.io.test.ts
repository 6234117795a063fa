/** Calls between nodes whose certificates have ended: they say nothing about whether the other node is up. */
import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { FabricAuthority, openTestTransport } from "../../fakes/fabric-transport.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { until } from "../../fakes/until.ts";

type Machine = Awaited<ReturnType<typeof openTestTransport>>;

const authority = new FabricAuthority();
const opened: Machine[] = [];
afterEach(async () => {
  for (const { transport } of opened.splice(0)) await transport.stop(0);
});

async function node(nodeId: string, endsInMs: number): Promise<Machine> {
  const machine = await openTestTransport({ tls: authority.issue(nodeId, { endsInMs }) });
  opened.push(machine);
  return machine;
}

/** Whether the call failed because a certificate has ended. */
async function hasEnded(from: Machine, to: string): Promise<boolean> {
  from.transport.call(1, to, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] }, 2_000);
  await until("the call is over", () => from.answers.has(1));
  expect(from.answers.get(1)).toBeUndefined();
  return from.ended.has(1);
}

test.each([
  { own: 60_000, other: -60_000, expected: true },
  { own: -60_000, other: 60_000, expected: true },
  { own: -60_000, other: -60_000, expected: true },
  { own: 60_000, other: 60_000, expected: false },
])(
  "own certificate ends in $own ms, the other in $other ms: a failed call is due to an end: $expected",
  async ({ own, other, expected }) => {
    const [a, b] = [await node("a", own), await node("b", other)];
    expect(await hasEnded(a, b.transport.address)).toBe(expected);
  },
);

test("a machine without a server is down, although the certificate of this node has ended", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  await new Promise((resolve) => server.close(resolve));
  expect(await hasEnded(await node("a", -60_000), `127.0.0.1:${port}`)).toBe(false);
});
