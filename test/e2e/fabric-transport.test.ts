/** Links and calls between nodes over real sockets: what arrives, what is refused, and what a bad peer can cost. */
import { afterEach, describe, expect, test } from "vitest";
import type { LinkFrame } from "../../src/fabric/messages.ts";
import { type FabricTransport, type TransportOptions } from "../../src/fabric/transport.io.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { FabricAuthority, type FakeMachine, openTestTransport } from "../fakes/fabric-transport.ts";
import { until } from "../fakes/until.ts";

type Node = FakeMachine & { readonly transport: FabricTransport };
const nodes: Node[] = [];

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.transport.stop(500)));
});

async function started(options: Partial<TransportOptions> = {}): Promise<Node> {
  const node = await openTestTransport(options);
  nodes.push(node);
  return node;
}

const hello = (nodeId: string): LinkFrame => ({ kind: "hello", hello: helloOf(nodeId) });

/** Records of so many bytes each. */
function records(recordBytes: number, count: number, through: number): LinkFrame {
  const record = new Uint8Array(recordBytes).fill(7);
  const frame = { ...nodeRef("n1"), after: 0, through, isComplete: false, isLast: false, floor: 0 };
  return { kind: "records", clusterId: "c1", region: "eu", frame: { ...frame, records: Array.from({ length: count }, () => record) } };
}

/** `a` opens link 2 to `b`; both have said hello. */
async function linked(a: Node, b: Node): Promise<{ readonly there: number }> {
  a.greeting = hello("a");
  b.greeting = hello("b");
  a.transport.openLink(2, b.transport.address);
  await until("both have the other's hello", () => (a.links.get(2)?.frames.length ?? 0) > 0 && (b.incoming()[0]?.frames.length ?? 0) > 0);
  return { there: [...b.links.entries()].find(([, link]) => link.isIncoming)?.[0] ?? 0 };
}

describe("plain, on loopback", () => {
  test("two nodes greet each other on a link, and frames go both ways in order", async () => {
    const [a, b] = [await started(), await started()];
    const { there } = await linked(a, b);
    expect(a.find(2)).toMatchObject({ isIncoming: false, frames: [hello("b")], proof: { isLoopback: true, certificate: undefined } });
    expect(b.find(there)).toMatchObject({ isIncoming: true, frames: [hello("a")] });
    a.say(2, ...Array.from({ length: 50 }, (_, i) => records(20_000, 10, i + 1)));
    b.say(there, ...Array.from({ length: 50 }, (_, i): LinkFrame => ({ kind: "linked", nodeIds: [`n${i}`] })));
    await until("all frames arrived", () => a.find(2).frames.length === 51 && b.find(there).frames.length === 51);
    expect(
      b
        .find(there)
        .frames.slice(1)
        .map((frame) => (frame.kind === "records" ? frame.frame.through : 0)),
    ).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    const [seventh, wanted] = [b.find(there).frames[7], records(20_000, 10, 7)].map(
      (frame) => frame?.kind === "records" && frame.frame.records,
    );
    expect(Buffer.concat(seventh || []).equals(Buffer.concat(wanted || []))).toBe(true);
  });

  test("calls are answered, and a call that is refused or takes too long is told so once", async () => {
    const [a, b] = [await started({ clusterToken: "secret" }), await started()];
    b.answer = (request) =>
      request.kind === "probe"
        ? { kind: "probe", from: nodeRef("b"), updates: [updateOf("n9", { status: "suspect", accuser: "b" })] }
        : undefined;
    a.transport.call(1, b.transport.address, { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [updateOf("a")] }, 2_000);
    a.transport.call(2, b.transport.address, { kind: "pushPull", from: nodeRef("a"), isJoin: true, members: [] }, 2_000);
    await until("both are answered", () => a.answers.size === 2);
    expect(a.answers.get(1)).toEqual({ kind: "probe", from: nodeRef("b"), updates: [updateOf("n9", { status: "suspect", accuser: "b" })] });
    expect(a.answers.get(2)).toBeUndefined();
    expect(b.asks[0]).toMatchObject({ request: { updates: [updateOf("a")] }, proof: { clusterToken: "secret", isLoopback: true } });
  });

  test("a goodbye is the last thing said; both sides hear that the link closed", async () => {
    const [a, b] = [await started(), await started()];
    const { there } = await linked(a, b);
    a.say(2, { kind: "goodbye", reason: "leave", detail: "" });
    a.transport.closeLink(2);
    await until("both closed", () => a.find(2).closed !== undefined && b.find(there).closed !== undefined);
    expect(b.find(there).frames.at(-1)).toEqual({ kind: "goodbye", reason: "leave", detail: "" });
    expect([a.find(2).closed, b.find(there).closed]).toEqual(["closed", "peer ended the link"]);
    await until("no connection is left", () => b.transport.counts().connections === 0);
  });
});

describe("with certificates", () => {
  test("each end knows the other by its certificate, although it was reached by an IP address", async () => {
    const authority = new FabricAuthority();
    const [a, b] = [await started({ tls: authority.issue("a") }), await started({ tls: authority.issue("b") })];
    const { there } = await linked(a, b);
    expect(a.find(2).proof.certificate).toEqual({ nodeId: "b", clusterId: "c1" });
    expect(b.find(there).proof.certificate).toEqual({ nodeId: "a", clusterId: "c1" });
  });
});
