/** Operators who list and watch the members of a mesh: the load of `operators.ts`, part `peers`. */
import { connect } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { PeerService, PeerServiceWatchRequestSchema } from "../gen/waymark/control/v1/peer_pb.js";
import { HttpWire } from "./_http.ts";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { type Running, startMemberTable } from "./_processes.ts";
import { type Address, Wire } from "./_wire.ts";
import { startConsul } from "./adapters/consul.ts";

export interface PeerLoad {
  readonly members: number;
  readonly seconds: number;
  readonly listsPerSecond: number;
  readonly changesPerSecond: number;
  /** Watches over SSE, and as many over gRPC. */
  readonly watches: number;
}

export interface PeerFigures {
  readonly listMs: readonly number[];
  readonly listBytes: number;
  readonly unchangedMs: readonly number[];
  /** From a change until a watcher has it. */
  readonly sseLagMs: readonly number[];
  readonly grpcLagMs: readonly number[];
  /** Of the server's core while it was listed and watched. */
  readonly cpuShare: number;
  readonly others: number;
}

const PATH = "/control/peers?limit=1000";
const WATCH = `/${PeerService.typeName}/Watch`;
/** The time at which a member changed is its version: in JSON, and after its tag and length in a message. */
const JSON_TIME = /"version":"(\d{13})"/g;
const FIELD_TIME = /Z\r(\d{13})/g;
/** The field `snapshot` of the message that ends a snapshot. */
const SNAPSHOT_END = "(\x03";
const SETTLE_MS = 2000;
const TRANSACTION = 64;

/** Calls `act` so often in a second, one after the other. Returns how long each took. */
async function atPace(perSecond: number, seconds: number, act: () => Promise<unknown>): Promise<readonly number[]> {
  const tookMs: number[] = [];
  const beganMs = performance.now();
  for (let i = 0; i < perSecond * seconds; i++) {
    await sleep(Math.max(0, beganMs + (i * 1000) / perSecond - performance.now()));
    const askedMs = performance.now();
    await act();
    tookMs.push(performance.now() - askedMs);
  }
  return tookMs;
}

function note(lagMs: number[], text: string, pattern: RegExp): void {
  for (const [, sentMs] of text.matchAll(pattern)) lagMs.push(Date.now() - Number(sentMs));
}

/** Opens a watch over SSE. A change is one chunk, nearly always. `onSnapshot` is called when the snapshot has ended. */
function watchEvents({ host, port }: Address, lagMs: number[], onSnapshot: () => void): () => void {
  const socket = connect({ host, port, noDelay: true });
  socket.on("data", (chunk: Buffer) => {
    const text = chunk.toString("latin1");
    if (text.includes("event: end")) onSnapshot();
    note(lagMs, text, JSON_TIME);
  });
  socket.write(`GET /control/events/peers HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`);
  return () => socket.destroy();
}

export async function listPeers({ members, seconds, listsPerSecond, changesPerSecond, watches }: PeerLoad): Promise<PeerFigures> {
  const server = await startMemberTable(members, changesPerSecond);
  const [sseLagMs, grpcLagMs]: readonly [number[], number[]] = [[], []];
  let opened = 0;
  const onSnapshot = () => (opened += 1);
  const stops = Array.from({ length: watches }, () => watchEvents(server.http, sseLagMs, onSnapshot));
  const wire = await Wire.open(server.grpc);
  const request = toBinary(PeerServiceWatchRequestSchema, create(PeerServiceWatchRequestSchema));
  for (let i = 0; i < watches; i++) {
    const onMessage = (bytes: Buffer, start: number, end: number) => {
      const text = bytes.toString("latin1", start, end);
      if (text.includes(SNAPSHOT_END)) onSnapshot();
      note(grpcLagMs, text, FIELD_TIME);
    };
    const stream = wire.stream(WATCH, { onMessage });
    stream.send(request);
    stream.end();
  }
  await until(() => opened >= 2 * watches, "not all watches have their snapshot");
  await sleep(SETTLE_MS);
  [sseLagMs.length, grpcLagMs.length] = [0, 0];
  const http = await HttpWire.open(server.http);
  const others = othersBeside([server]);
  const [cpuMs, beganMs] = [server.cpuMs(), performance.now()];
  let listBytes = 0;
  const listMs = await atPace(listsPerSecond, seconds, async () => {
    listBytes = (await http.request({ path: PATH })).length;
  });
  const cpuShare = (server.cpuMs() - cpuMs) / (performance.now() - beganMs);
  const figures = { listMs, listBytes, sseLagMs: [...sseLagMs], grpcLagMs: [...grpcLagMs], cpuShare, others: others() };
  for (const stop of stops) stop();
  wire.close();
  http.close();
  await server.stop();
  return { ...figures, unchangedMs: await unchangedLists(members, seconds * listsPerSecond) };
}

/** Asks again for a list that has not changed. */
async function unchangedLists(members: number, count: number): Promise<readonly number[]> {
  const server = await startMemberTable(members, 0);
  const http = await HttpWire.open(server.http);
  const { headers } = await http.ask({ path: PATH });
  const etag = /etag: (\S+)/.exec(headers)?.[1]?.replace("w/", "W/") ?? "";
  const tookMs = await atPace(100, count / 100, () => http.ask({ path: PATH, etag }));
  http.close();
  await server.stop();
  return tookMs;
}

/** The same lists of as many nodes, of Consul. Undefined if it is not installed. */
export async function listConsulNodes({ members, seconds, listsPerSecond }: PeerLoad): Promise<readonly number[] | undefined> {
  const consul: Running | undefined = await startConsul();
  if (consul === undefined) return undefined;
  const http = await HttpWire.open(consul.grpc);
  for (let from = 0; from < members; from += TRANSACTION) {
    const nodes = Array.from({ length: Math.min(TRANSACTION, members - from) }, (_, i) => ({
      Node: { Verb: "set", Node: { Node: `node-${from + i}`, Address: `10.0.0.${i}`, Meta: { rack: `${i % 40}`, version: "1.0.0" } } },
    }));
    await http.request({ path: "/v1/txn", method: "PUT", body: JSON.stringify(nodes) });
  }
  const tookMs = await atPace(listsPerSecond, seconds, () => http.request({ path: "/v1/catalog/nodes?stale" }));
  http.close();
  await consul.stop();
  return tookMs;
}
