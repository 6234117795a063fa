/** A peer whose probes and tables have numbers at the ends of what their fields can hold: a real node writes, ends leases, restarts and meets others as ever. */
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DescField, type DescMessage, fromBinary, ScalarType, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { afterAll, expect, test } from "vitest";
import { ProbeIndirectRequestSchema, ProbeRequestSchema, PushPullRequestSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { encodeCallRequest } from "../../src/fabric/call-codec.ts";
import { callHeaders } from "../../src/fabric/dial.io.ts";
import type { CallRequest } from "../../src/fabric/messages.ts";
import { framed } from "../../src/lib/grpc-frames.ts";
import { MAX_STAMP } from "../../src/lib/hlc.ts";
import { nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-calls-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

const WIDE = [0n, 1n, 2n ** 32n, 2n ** 52n, 2n ** 52n + 1n, BigInt(MAX_STAMP), 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n];
const NARROW = [0, 1, 8, 9, 2 ** 31 - 1];

/** What number fields can hold at their ends, and where a bound of ours may be. */
const ENDS = new Map<ScalarType, readonly (bigint | number)[]>([
  ...[ScalarType.UINT64, ScalarType.FIXED64].map((type) => [type, [...WIDE, 2n ** 63n, 2n ** 64n - 1n]] as const),
  ...[ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64].map((type) => [type, [...WIDE, -1n, -(2n ** 63n)]] as const),
  ...[ScalarType.UINT32, ScalarType.FIXED32].map((type) => [type, [...NARROW, 2 ** 31, 2 ** 32 - 1]] as const),
  ...[ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32].map((type) => [type, [...NARROW, -1, -(2 ** 31)]] as const),
]);

/** Of a field, or of one in its list; none for fields that are no numbers. */
function endsOf(field: DescField): readonly (bigint | number)[] {
  const isScalar = field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar");
  return (isScalar ? ENDS.get(field.scalar) : undefined) ?? [];
}

interface Change {
  readonly what: string;
  readonly make: (message: ReflectMessage) => void;
}

/** Each number of a message and of those within it, at each of its ends. */
function changesOf(desc: DescMessage, path: string, within: (message: ReflectMessage) => ReflectMessage): readonly Change[] {
  return desc.fields.flatMap((field): readonly Change[] => {
    const at = `${path}.${field.name}`;
    if (field.fieldKind === "message")
      return changesOf(field.message, at, (message) => {
        const parent = within(message);
        if (!parent.isSet(field)) parent.set(field, reflect(field.message));
        return parent.get(field);
      });
    if (field.fieldKind === "list" && field.listKind === "message")
      return changesOf(field.message, at, (message) => {
        const list = within(message).get(field);
        if (list.size === 0) list.add(reflect(field.message));
        return list.get(0) as ReflectMessage;
      });
    return endsOf(field).map((end) => ({
      what: `${at} ${end}`,
      make: (message) => {
        const parent = within(message);
        if (field.fieldKind === "list") parent.get(field).add(end);
        else parent.set(field, end);
      },
    }));
  });
}

interface Call {
  readonly method: string;
  readonly desc: DescMessage;
  readonly sample: (nodeId: string) => CallRequest;
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
    changesOf(desc, method, (message) => message).map(({ what, make }, n) => {
      const message = fromBinary(desc, encodeCallRequest(sample(`evil-${method.toLowerCase()}-${n}`)));
      make(reflect(desc, message));
      return { what, method, bytes: toBinary(desc, message) };
    }),
  );
}

/** Resolves when the call is answered or refused. */
function ask(session: ClientHttp2Session, method: string, bytes: Uint8Array): Promise<void> {
  const stream = session.request(callHeaders(method, "", undefined));
  stream.on("error", () => {}).resume();
  stream.end(framed(bytes));
  return new Promise((resolve) => stream.once("close", () => resolve()));
}

function start(nodeId: string, ...more: readonly string[]): Promise<NodeProcess> {
  const place = ["--node-id", nodeId, "--cluster-id", "c1", "--region", "eu"];
  return startNodeProcess(["--data-dir", join(data, nodeId), "--on-stop", "keep", ...place, ...more]);
}

const keyOf = (name: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" });

async function names(door: GrpcDoor): Promise<string> {
  const { response, code } = await door.ask("catalogQuery", { namespace: "svc.market", limit: 1000 });
  expect(code).toBe("OK");
  const items = (response["items"] ?? []) as { readonly key: { readonly name: string } }[];
  return items
    .map(({ key }) => key.name)
    .toSorted()
    .join();
}

async function registered(door: GrpcDoor, name: string, lease: object): Promise<void> {
  const { code, reason, message } = await door.ask("register", { entries: [{ key: keyOf(name) }], ...lease });
  expect(`${name}: ${code} ${reason} ${message}`).toMatch(/OK/);
}

test("every number of probes and tables at its ends, then a write, an unregister, the end of a lease, a restart, and a newcomer", async () => {
  const all = cases();
  // Every message's numbers were found, those of messages within messages too.
  for (const found of ["Probe.origin.generation", "Probe.updates.incarnation", "ProbeIndirect.timeout.seconds", "PushPull.lost.through"])
    expect(all.map(({ what }) => what.split(" ")[0])).toContain(found);
  {
    await using node = await start("a");
    using door = new GrpcDoor(node.grpc);
    await registered(door, "before", { static: true });
    const session = connectHttp2(`http://${node.listeners["fabric"] ?? ""}`).on("error", () => {});
    for (const [n, { what, method, bytes }] of all.entries()) {
      await ask(session, method, bytes);
      if (!node.command.isRunning) throw new Error(`${what} ended the node: ${node.command.stderr.slice(-1_000)}`);
      // A write now and again: what a number broke shows at once.
      if (n % 20 === 0) await registered(door, "now-and-again", { static: true });
    }
    session.destroy();
    await registered(door, "kept", { static: true });
    await registered(door, "gone", { static: true });
    await registered(door, "short", { ttl: "1s" });
    expect((await door.ask("unregister", { keys: [keyOf("gone")] })).code).toBe("OK");
    await until("the lease ends", async () => (await names(door)) === "before,kept,now-and-again");
    await node.stop("SIGKILL");
  }
  await using node = await start("a");
  using door = new GrpcDoor(node.grpc);
  expect(await names(door)).toBe("before,kept,now-and-again");
  await using newcomer = await start("n", "--join", node.listeners["fabric"] ?? "");
  using newcomerDoor = new GrpcDoor(newcomer.grpc);
  await registered(newcomerDoor, "theirs", { static: true });
  for (const each of [door, newcomerDoor])
    await until("both have everything", async () => {
      const found = await names(each);
      return found === "before,kept,now-and-again,theirs" ? [] : [found];
    });
});
