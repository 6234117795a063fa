/**
 * A peer whose probes and tables have numbers at the ends of what their fields can hold: a real node writes, ends leases, restarts and meets others as ever.
 * @module-tag night
 */
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { afterAll, expect, test } from "vitest";
import { ProbeIndirectRequestSchema, ProbeRequestSchema, PushPullRequestSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import type { FabricCallRequest } from "../../src/fabric/wire/messages.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { changesOf } from "../fakes/field-ends.ts";
import { fabricOf, startKeptNode } from "../fakes/kept-node.ts";
import { keyOf, names, registered } from "../fakes/market.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { callHeaders } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-calls-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

interface Call {
  readonly method: string;
  readonly desc: DescMessage;
  readonly sample: (nodeId: string) => FabricCallRequest;
}

const CALLS: readonly Call[] = [
  {
    method: "Probe",
    desc: ProbeRequestSchema,
    sample: (nodeId) => ({ kind: "probe", from: nodeRef(nodeId), targetNodeId: "a", updates: [updateOf(nodeId)] }),
  },
  {
    method: "ProbeIndirect",
    desc: ProbeIndirectRequestSchema,
    sample: (nodeId) => ({
      kind: "probeIndirect",
      from: nodeRef(nodeId),
      targetNodeId: "b",
      targetAddress: "127.0.0.1:9",
      timeoutMs: 100,
      updates: [updateOf(nodeId)],
    }),
  },
  {
    method: "PushPull",
    desc: PushPullRequestSchema,
    sample: (nodeId) => ({
      kind: "pushPull",
      from: nodeRef(nodeId),
      isJoin: false,
      members: [updateOf(nodeId)],
      digest: 0n,
      lost: [{ nodeId: "gone", generation: 1, through: 5, mark: 0 }],
    }),
  },
];

/** All calls, as bytes. */
function cases(): readonly { readonly what: string; readonly method: string; readonly bytes: Uint8Array }[] {
  return CALLS.flatMap(({ method, desc, sample }) =>
    changesOf(desc, method, "numbers").map(({ what, make }, n) => {
      const message = fromBinary(desc, encodeCallRequest(sample(`evil-${method.toLowerCase()}-${n}`)));
      make(reflect(desc, message));
      return { what, method, bytes: toBinary(desc, message) };
    }),
  );
}

/** Resolves when the call is answered or refused. */
function ask(session: ClientHttp2Session, method: string, bytes: Uint8Array): Promise<void> {
  const stream = session.request(callHeaders(method, ""));
  stream.on("error", () => {}).resume();
  stream.end(framed(bytes));
  return new Promise((resolve) => stream.once("close", () => resolve()));
}

test("every number of probes and tables at its ends, then a write, an unregister, the end of a lease, a restart, and a newcomer", async () => {
  const all = cases();
  // Every message's numbers were found, those of messages within messages too.
  for (const found of ["Probe.origin.generation", "Probe.updates.incarnation", "ProbeIndirect.timeout.seconds", "PushPull.lost.through"])
    expect(all.map(({ what }) => what.split(" ")[0])).toContain(found);
  {
    await using node = await startKeptNode(data, "a");
    using door = new GrpcDoor(node.grpc);
    await registered(door, "before", { staticLease: true });
    const session = connectHttp2(`http://${fabricOf(node)}`).on("error", () => {});
    for (const [n, { what, method, bytes }] of all.entries()) {
      await ask(session, method, bytes);
      if (!node.command.isRunning) throw new Error(`${what} ended the node: ${node.command.stderr.slice(-1_000)}`);
      // A write now and again: what a number broke shows at once.
      if (n % 20 === 0) await registered(door, "now-and-again", { staticLease: true });
    }
    session.destroy();
    await registered(door, "kept", { staticLease: true });
    await registered(door, "gone", { staticLease: true });
    await registered(door, "short", { ttl: "1s" });
    expect((await door.ask("unregister", { keys: [keyOf("gone")] })).code).toBe("OK");
    await until("the lease ends", async () => (await names(door)) === "before,kept,now-and-again");
    await node.stop("SIGKILL");
  }
  await using node = await startKeptNode(data, "a");
  using door = new GrpcDoor(node.grpc);
  expect(await names(door)).toBe("before,kept,now-and-again");
  await using newcomer = await startKeptNode(data, "n", "--join", fabricOf(node));
  using newcomerDoor = new GrpcDoor(newcomer.grpc);
  await registered(newcomerDoor, "theirs", { staticLease: true });
  for (const each of [door, newcomerDoor])
    await until("both have everything", async () => {
      const found = await names(each);
      return found === "before,kept,now-and-again,theirs" ? [] : [found];
    });
});
