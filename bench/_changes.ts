/** Changes at a steady rate, each key always at the same node, and a watch at each node that is timed. */
import { fromBinary } from "@bufbuild/protobuf";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import type { Running } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { fail, keyOf, PATH, registerBytes, watchBytes } from "./_work.ts";

const LATE_MS = 60_000;
/** The version that a change carries: one digit, since etcd's is the first byte of its value. */
const VERSIONS = 10;
/** Calls that may be open on one connection. A change that is due meanwhile waits, and its wait counts. */
const MAX_OPEN = 100;

/** Told of each change: the text of its key, and its version. */
export type Heard = (key: string, version: number) => void;

/** One node of a mesh, as clients meet it. */
export interface MeshNode {
  readonly server: Running;
  change(k: number, version: number): Promise<unknown>;
  /** Opens a watch; resolves when changes from now on are told. */
  watch(heard: Heard): Promise<void>;
  close(): void;
}

export interface Mesh {
  readonly servers: readonly Running[];
  readonly textOf: (k: number) => string;
  open(server: Running): Promise<MeshNode>;
}

/** Our nodes. */
export function waymarkMesh(servers: readonly Running[]): Mesh {
  return {
    servers,
    textOf: (k) => `${keyOf(k).name}/${keyOf(k).instanceId}`,
    open: async (server) => {
      const wires = [await Wire.open(server.grpc), await Wire.open(server.grpc)] as const;
      return {
        server,
        change: (k, version) => wires[0].unary(PATH.register, registerBytes(k, k + 1, { version })),
        watch: (heard) => watchWaymark(wires[1], heard),
        close: () => wires.forEach((wire) => wire.close()),
      };
    },
  };
}

function watchWaymark(wire: Wire, heard: Heard): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = wire.stream(PATH.watch, {
      onMessage: (bytes, start, end) => {
        const message = fromBinary(CatalogWatchResponseSchema, bytes.subarray(start, end));
        for (const { payload } of message.deltas) {
          if (payload.case !== "entry") continue;
          const { key, metadata } = payload.value;
          heard(`${key?.name}/${key?.instanceId}`, Number(metadata["v"] ?? -1));
        }
        if (message.snapshot === Snapshot.END) resolve();
      },
      onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
    });
    stream.send(watchBytes());
    stream.end();
  });
}

export function cpuMs(servers: readonly Running[]): number {
  return servers.reduce((sum, server) => sum + server.cpuMs(), 0);
}

export interface Changes {
  /** Of all nodes together, a change and node. */
  readonly cpuUs: number;
  /** From when a change was due until a watch had it; one a change and node. */
  readonly seenMs: readonly number[];
}

export interface ChangeOptions {
  readonly perSecond: number;
  readonly seconds: number;
  /** Keys that change in turn. The same comes again after some seconds, so that no change replaces one that is still on its way. */
  readonly keys: number;
}

let version = 0;

/** Sends what is due, whether or not earlier ones are answered (`MAX_OPEN`), and waits until every watch has had every change. */
export async function changeAtRate(mesh: Mesh, { perSecond, seconds, keys }: ChangeOptions): Promise<Changes> {
  const total = perSecond * seconds;
  const seenMs: number[] = [];
  const dueAt = new Map<string, number>();
  const nodes = await Promise.all(mesh.servers.map((server) => mesh.open(server)));
  let heardAll: () => void = () => {};
  const all = new Promise<void>((resolve) => (heardAll = resolve));
  const heard: Heard = (key, told) => {
    const due = dueAt.get(`${key} ${told}`);
    if (due === undefined) return;
    if (seenMs.push(performance.now() - due) === total * nodes.length) heardAll();
  };
  await Promise.all(nodes.map((node) => node.watch(heard)));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const beforeMs = cpuMs(mesh.servers);
  const startMs = performance.now();
  const late = setTimeout(() => fail(), seconds * 1000 + LATE_MS);
  const answers: Promise<unknown>[] = [];
  let [sent, answered] = [0, 0];
  const turn = () => {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * perSecond) + 1);
    for (; sent < due && sent < answered + MAX_OPEN; sent++) {
      const k = sent % keys;
      if (k === 0) version = (version + 1) % VERSIONS;
      dueAt.set(`${mesh.textOf(k)} ${version}`, startMs + (sent * 1000) / perSecond);
      const node = nodes[k % nodes.length] ?? fail();
      answers.push(node.change(k, version).then(() => answered++));
    }
    // A timer, though it adds up to a millisecond: looking all the time would take a core from the nodes.
    if (sent < total) setTimeout(turn, Math.max(1, startMs + (sent * 1000) / perSecond - performance.now()));
  };
  turn();
  await all;
  await Promise.all(answers);
  clearTimeout(late);
  const cpuUs = ((cpuMs(mesh.servers) - beforeMs) * 1000) / (total * nodes.length);
  for (const node of nodes) node.close();
  return { cpuUs, seenMs };
}
