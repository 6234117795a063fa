/**
 * Probes and tables of a real node are answered with every field at its ends, each once: a peer that asks to have others probed, and greets as ever
 * new nodes, has the node ask. It lives, writes, ends leases, starts again, and is a member as ever.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { AnsweringPeer } from "../fakes/answering-peer.ts";
import { changeCount, changed, honestAnswer } from "../fakes/changed-answers.ts";
import { nodeRef } from "../fakes/fabric-values.ts";
import { fabricOf, startKeptNode } from "../fakes/kept-node.ts";
import { names, registered } from "../fakes/market.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { callHeaders, RawLink } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-every-answer-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

/** Probes for others at a time. */
const RELAYS = 20;

/** Has the node probe somebody there. */
function relay(address: string, to: AnsweringPeer): Promise<unknown> {
  const session = connect(`http://${address}`).on("error", () => {});
  const asked = Array.from({ length: RELAYS }, () => {
    const stream = session.request(callHeaders("ProbeIndirect", "")).on("error", () => {});
    stream.resume();
    const target = { targetNodeId: to.nodeId, targetAddress: to.address };
    stream.end(framed(encodeCallRequest({ kind: "probeIndirect", from: nodeRef("asker"), ...target, timeoutMs: 5_000, updates: [] })));
    return new Promise((resolve) => stream.once("close", resolve));
  });
  return Promise.all(asked).finally(() => session.destroy());
}

test("every answer to a probe, and every table, with each field at its ends, then a write, the end of a lease and a restart", async () => {
  await using honest = await startKeptNode(data, "honest");
  using honestDoor = new GrpcDoor(honest.grpc);
  await registered(honestDoor, "theirs", { staticLease: true });
  {
    await using node = await startKeptNode(data, "a", "--join", fabricOf(honest));
    using door = new GrpcDoor(node.grpc);
    const isRunning = (what: string) => {
      if (!node.command.isRunning) throw new Error(`${what}: ${node.command.stderr.slice(-1_000)}`);
    };
    await using probed = await AnsweringPeer.start("probed", (method, n, peer) =>
      method === "Probe" ? changed(method, n, peer) : honestAnswer(method, peer),
    );
    // Only members are probed for others.
    using member = new RawLink(fabricOf(node), probed.nodeId, 1, { address: probed.address });
    await until("it is a member", () => probed.asked.has("Probe"));
    while ((probed.asked.get("Probe") ?? 0) < changeCount("Probe")) {
      const before = probed.asked.get("Probe") ?? 0;
      await relay(fabricOf(node), probed);
      await until("more are asked", () => (probed.asked.get("Probe") ?? 0) > before, 10_000);
      isRunning(`answers to probes from ${before} on`);
    }
    await member.end();
    await registered(door, "kept", { staticLease: true });
    for (let n = 0; n < changeCount("PushPull"); n++) {
      // A node of its own each time: who is known is not asked for its table.
      await using peer = await AnsweringPeer.start(`table-${n}`, (method, _n, self) => changed(method, n, self));
      using link = new RawLink(fabricOf(node), peer.nodeId, 7 + n, { address: peer.address });
      await until(`its ${n}th table is asked for`, () => peer.asked.has("PushPull"));
      await link.end();
      isRunning(`table ${n}`);
    }
    await registered(door, "short", { ttl: "1s" });
    await until("the lease ends", async () => (await names(door)) === "kept,theirs");
    await node.stop("SIGKILL");
  }
  await using node = await startKeptNode(data, "a", "--join", fabricOf(honest));
  using door = new GrpcDoor(node.grpc);
  expect(await names(door)).toBe("kept,theirs");
  await registered(door, "again", { staticLease: true });
  await until("the other one has it", async () => (await names(honestDoor)) === "again,kept,theirs");
});
