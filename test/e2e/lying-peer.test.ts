/** Two real nodes and a peer that lies to one of them over its fabric listener: they go on, hold the same, and say what was refused. */
import { connect as connectHttp2 } from "node:http2";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { FabricTransport } from "../../src/fabric/transport/transport.io.ts";
import { encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import { encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import type { LinkFrame, MemberUpdate, VectorEntry } from "../../src/fabric/wire/messages.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { type FakeMachine, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { callHeaders } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";

/** The highest number that is taken from anybody. */
const FAR = 2 ** 52;
const LINK = 2;

type Liar = FakeMachine & { readonly transport: FabricTransport };

interface Honest {
  readonly process: NodeProcess;
  readonly door: GrpcDoor;
}

let a: Honest;
let b: Honest;
let registered = 0;
const liars: Liar[] = [];

async function honest(nodeId: string, join: readonly string[] = []): Promise<Honest> {
  const process = await startNodeProcess(["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", "--region", "eu", ...join]);
  return { process, door: new GrpcDoor(process.grpc) };
}

const fabricOf = ({ process }: Honest): string => process.listeners["fabric"] ?? "";

beforeAll(async () => {
  a = await honest("a");
  b = await honest("b", ["--join", fabricOf(a)]);
  await goesOn();
});

afterEach(async () => {
  await Promise.all(liars.splice(0).map(({ transport }) => transport.stop(200)));
});

afterAll(async () => {
  for (const { process, door } of [a, b]) {
    door[Symbol.dispose]();
    await process[Symbol.asyncDispose]();
  }
});

async function seenBy({ door }: Honest): Promise<ReadonlyMap<string, string>> {
  const { response, code } = await door.ask("catalogQuery", { namespacePrefix: "svc", limit: 1000 });
  expect(code).toBe("OK");
  const items = (response["items"] ?? []) as JsonObject[];
  return new Map(items.map((item) => [textOf((item["key"] as JsonObject)["name"]), textOf(item["health"])]));
}

/** What is registered at either is healthy at both, and what was before it is there too. */
async function goesOn(more: readonly Honest[] = []): Promise<boolean> {
  const all = [a, b, ...more];
  for (const { door } of all) {
    registered += 1;
    const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: `w${registered}`, instanceId: "1" } };
    expect((await door.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
  }
  for (const [i, each] of all.entries())
    await until(`node ${i} has everything`, async () => {
      const seen = await seenBy(each);
      const names = Array.from({ length: registered }, (_, n) => `w${n + 1}`);
      const wrong = names.filter((name) => seen.get(name) !== "HEALTH_STATUS_HEALTHY");
      return seen.size === registered ? wrong : [...wrong, `${seen.size} of ${registered}`];
    });
  return true;
}

/** A peer with a link to `a`; it answers probes, so that it is a member as others are. */
async function liar(nodeId = "evil", more: Parameters<typeof helloOf>[1] = {}): Promise<Liar> {
  const machine = await openTestTransport();
  liars.push(machine);
  machine.greeting = { kind: "hello", hello: helloOf(nodeId, { address: machine.transport.address, generation: Date.now(), ...more }) };
  machine.answer = () => ({ kind: "probe", from: nodeRef(nodeId), updates: [] });
  machine.transport.openLink(LINK, fabricOf(a));
  await until("linked", () => (machine.links.get(LINK)?.frames.length ?? 0) > 0 || machine.unopened.has(LINK));
  return machine;
}

/** Generation of a node as it is now. */
async function generationOf({ door }: Honest): Promise<number> {
  return Number((await door.ask("serverInfo")).response["generation"]);
}

function vector(entries: readonly VectorEntry[], isPartial = true): LinkFrame {
  return { kind: "vector", entries, digest: 1n, isPartial, isWanted: false };
}

function records(nodeId: string, generation: number, more: Partial<Extract<LinkFrame, { kind: "records" }>["frame"]> = {}): LinkFrame {
  const frame = { nodeId, generation, after: 0, through: 1, records: [], isComplete: false, isLast: false, floor: 0, ...more };
  return { kind: "records", clusterId: "c1", region: "eu", frame };
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://${a.process.listeners["http"]}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

const hasLogged = (pattern: RegExp) => () => pattern.test(a.process.command.stderr);

test("a vector that is far ahead of everybody, of us too: what is missing is asked of others, and our own come anew", async () => {
  const evil = await liar();
  const generation = await generationOf(a);
  evil.say(LINK, vector([{ nodeId: "b", generation: await generationOf(b), seq: FAR, floor: 0 }], false));
  await goesOn();
  evil.say(LINK, vector([{ nodeId: "a", generation, seq: 1_000_000, floor: 0 }]));
  await until("it takes a new generation", hasLogged(/starting a new generation/));
  await goesOn();
  // Once is believed; every other time would cost as much.
  const renewed = await generationOf(a);
  for (let i = 0; i < 20; i++) evil.say(LINK, vector([{ nodeId: "a", generation: renewed, seq: FAR - i, floor: FAR - i }]));
  await goesOn();
  expect(await generationOf(a)).toBe(renewed);
});

test("somebody else's origin, told to be far ahead: its own node finds out, and nothing of it is lost", async () => {
  const evil = await liar();
  evil.say(LINK, vector([], false));
  evil.say(LINK, records("b", await generationOf(b), { through: 1_000_000 }));
  expect(await goesOn()).toBe(true);
});

test("our own origin is told by nobody; records that are none are refused alone", async () => {
  const evil = await liar();
  evil.say(LINK, vector([], false));
  const refused = await metric("mesh_refused_records_total");
  evil.say(LINK, records("a", await generationOf(a), { through: FAR }));
  await until("refused", hasLogged(/the origin is this node itself/));
  evil.say(LINK, records("evil", 7, { through: 3, records: [new Uint8Array(200).fill(255), new Uint8Array(0), Uint8Array.of(8, 1)] }));
  await until("counted", async () => ((await metric("mesh_refused_records_total")) >= refused + 3 ? [] : ["not yet"]));
  expect(await goesOn()).toBe(true);
});

/** 10⁶ origins in vectors, then 20,000 in frames. */
function* strangeOrigins(): Generator<LinkFrame, undefined> {
  for (let i = 0; i < 100; i++)
    yield vector(Array.from({ length: 10_000 }, (_, n) => ({ nodeId: `ghost${i}-${n}`, generation: 1, seq: 1, floor: 0 })));
  for (let i = 0; i < 20_000; i++) yield records(`phantom${i}`, 1);
}

test("10⁶ origins in vectors and 20,000 in frames: bounded, and a newcomer's are taken all the same", { tags: ["night"] }, async () => {
  const evil = await liar();
  const rssBefore = await metric("process_resident_memory_bytes");
  evil.say(LINK, vector([], false));
  // Made as they are sent: a peer that is busy making all of them at once does not answer pings meanwhile, and loses its link.
  const strange = strangeOrigins();
  let isSent = false;
  evil.endless = () => {
    const { value, done } = strange.next();
    isSent = done === true;
    return value;
  };
  evil.transport.wake(LINK);
  const cut = () => evil.links.get(LINK)?.closed;
  await until("all are sent", () => isSent || cut() !== undefined, 240_000);
  expect(cut()).toBeUndefined();
  await until("too many are told of", hasLogged(/too many origins|maximum number of origins/));
  await goesOn();
  await until("memory is bounded", async () => (await metric("process_resident_memory_bytes")) - rssBefore < 300 * 2 ** 20);
  const c = await honest("c", ["--join", fabricOf(a)]);
  try {
    expect(await goesOn([c])).toBe(true);
  } finally {
    c.door[Symbol.dispose]();
    await c.process.stop("SIGKILL");
    registered -= 1;
  }
});

test.each([
  { what: "a frame cut short", bytes: framed(encodeLinkFrame(vector([{ nodeId: "x", generation: 1, seq: 1, floor: 0 }])).subarray(0, 5)) },
  { what: "a frame larger than any", bytes: Uint8Array.of(0, 64, 0, 0, 0) },
  { what: "garbage", bytes: framed(new Uint8Array(1000).fill(0xff)) },
  {
    what: "a frame with more records than any version sends at once",
    bytes: framed(encodeLinkFrame(records("evil", 7, { through: 4000, records: Array.from({ length: 4000 }, () => new Uint8Array(42)) }))),
  },
])("$what ends the link and nothing else", async ({ bytes }) => {
  const session = connectHttp2(`http://${fabricOf(a)}`);
  session.on("error", () => {});
  const stream = session.request(callHeaders("Link", ""));
  stream.on("error", () => {});
  stream.resume();
  const closed = { isSo: false };
  stream.on("close", () => (closed.isSo = true));
  stream.write(framed(encodeLinkFrame({ kind: "hello", hello: helloOf("evil", { generation: Date.now() }) })));
  stream.write(bytes);
  await until("the link ends", () => closed.isSo);
  session.destroy();
  expect(await goesOn()).toBe(true);
});

test("a peer that stops reading: others get everything, and nothing is kept for it", async () => {
  const session = connectHttp2(`http://${fabricOf(a)}`);
  session.on("error", () => {});
  const stream = session.request(callHeaders("Link", ""));
  stream.on("error", () => {});
  stream.pause();
  stream.write(framed(encodeLinkFrame({ kind: "hello", hello: helloOf("deaf", { generation: Date.now() }) })));
  stream.write(framed(encodeLinkFrame(vector([], false))));
  const rssBefore = await metric("process_resident_memory_bytes");
  const metadata = Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`k${n}`, "x".repeat(1000)]));
  // 32 MB, far more than windows and sockets hold.
  for (let batch = 0; batch < 16; batch++) {
    const entries = Array.from({ length: 250 }, (_, n) => ({
      key: { kind: "ENTRY_KIND_SERVICE", namespace: "bulk", name: `b${batch}-${n}`, instanceId: "1" },
      metadata,
    }));
    expect((await a.door.ask("register", { entries, staticLease: true })).code).toBe("OK");
  }
  await until("b has the last of it", async () => {
    const { response } = await b.door.ask("catalogQuery", { namespace: "bulk", names: ["b15-249"] });
    return Array.isArray(response["items"]) ? [] : ["not yet"];
  });
  expect(await goesOn()).toBe(true);
  // The catalog itself is half of it.
  await until("memory is bounded", async () => (await metric("process_resident_memory_bytes")) - rssBefore < 300 * 2 ** 20);
  session.destroy();
});

test("frames and fields of a later version are passed over; a version of another age is turned away", async () => {
  const evil = await liar();
  const unknownBefore = await metric('mesh_refused_total{what="unknown_frame"}');
  // Field 500 of the link's message, and a frame of kind 500.
  const field = Uint8Array.of(0xa2, 0x1f, 3, 1, 2, 3);
  const frame = Uint8Array.of(0x0a, field.length, ...field);
  const session = connectHttp2(`http://${fabricOf(a)}`);
  session.on("error", () => {});
  const stream = session.request(callHeaders("Link", ""));
  let heard = 0;
  stream.on("data", (chunk: Buffer) => (heard += chunk.length));
  stream.on("error", () => {});
  stream.write(
    framed(encodeLinkFrame({ kind: "hello", hello: helloOf("later", { generation: Date.now(), protocolVersions: [1, 2, 3] }) })),
  );
  for (let i = 0; i < 5; i++) for (const later of [field, frame]) stream.write(framed(later));
  await until("it is talked to", () => heard > 0);
  await until("all are read", async () => (await metric('mesh_refused_total{what="unknown_frame"}')) === unknownBefore + 10);
  await goesOn();
  expect(stream.closed).toBe(false);
  session.destroy();
  expect(evil.links.get(LINK)?.closed).toBeUndefined();
  const ancient = await liar("ancient", { protocolVersions: [99] });
  await until("turned away", () => JSON.stringify(ancient.links.get(LINK)).includes("incompatible"));
});

test("the name of another node: of us, of one that is here; the rightful one stays", async () => {
  const self = await liar("a");
  await until("turned away", () => JSON.stringify(self.links.get(LINK)).includes("duplicate_node"));
  const other = await liar("b", { generation: 5 });
  other.say(LINK, vector([], false));
  other.say(LINK, records("b", 5, { through: 10 }));
  await goesOn();
  const { response } = await a.door.ask("listPeers", {});
  expect(((response["peers"] ?? []) as JsonObject[]).filter((peer) => peer["nodeId"] === "b")).toHaveLength(1);
});

test("false deaths and a crowd of members that are not there: the living contradict, the crowd is bounded", async () => {
  const generation = await generationOf(b);
  const told: MemberUpdate[] = [
    updateOf("b", { generation, address: fabricOf(b), status: "dead", incarnation: 1_000_000, accuser: "evil" }),
  ];
  for (let i = 0; i < 200; i++) told.push(updateOf(`crowd${i}`, { address: `127.0.0.1:${20_000 + i}`, status: "alive", incarnation: 1 }));
  const session = connectHttp2(`http://${fabricOf(a)}`);
  session.on("error", () => {});
  for (let i = 0; i < 20; i++) {
    const stream = session.request(callHeaders("Probe", ""));
    stream.on("error", () => {});
    stream.resume();
    stream.end(framed(encodeCallRequest({ kind: "probe", from: nodeRef("evil"), targetNodeId: "a", updates: told })));
  }
  await goesOn();
  await until("the crowd is taken for dead, b is not", async () => {
    const { response } = await a.door.ask("listPeers", {});
    const peers = (response["peers"] ?? []) as JsonObject[];
    const alive = peers.filter(({ status }) => status === "PEER_STATUS_ALIVE").map(({ nodeId }) => textOf(nodeId));
    return alive.join() === "b" ? [] : alive.concat("…");
  });
  expect(session.destroyed).toBe(false);
  session.destroy();
});
