/** Nodes of one region as clients meet them: how they are started, changed and watched. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import {
  CatalogWatchRequestSchema,
  CatalogWatchResponseSchema,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { type Node, type Running, scratchDir, startNode } from "./_processes.ts";
import { Wire } from "./_wire.ts";
import { ask, fail, keyOf, NAMESPACE, PATH, registerBytes } from "./_work.ts";

/** Version of an entry that was taken out: numbers are never used again, so nothing comes after it. */
export const ENDED = Number.MAX_SAFE_INTEGER;

/** Told of each entry that a watch shows: the text of its key, and the version that it has now. */
export type Heard = (key: string, version: number) => void;

/** One node of a mesh. */
export interface MeshNode {
  change(k: number, version: number): Promise<unknown>;
  /** Opens a watch; resolves when it has told what there is, and tells changes from now on. */
  watch(heard: Heard): Promise<void>;
  close(): void;
}

export interface Mesh {
  readonly who: string;
  readonly servers: readonly Running[];
  readonly textOf: (k: number) => string;
  open(server: Running): Promise<MeshNode>;
}

/** Starts a node that joins the first of those, with a data directory and on whatever core there is. */
export async function startMember(others: readonly Node[], name: string, { isPlain = true } = {}): Promise<Node> {
  const [seed] = others;
  const to = seed === undefined ? [] : ["--join", seed.listeners["fabric"] ?? fail()];
  return startNode({ dataDir: scratchDir(name), isFree: true, isPlain, args: ["--node-id", name, ...to] });
}

/** One after the other. */
export async function startMembers(count: number, options: { readonly isPlain?: boolean } = {}): Promise<readonly Node[]> {
  const nodes: Node[] = [];
  for (let i = 0; i < count; i++) nodes.push(await startMember(nodes, `bench-${i}`, options));
  return nodes;
}

export function textOf(k: number): string {
  const { name, instanceId } = keyOf(k);
  return `${name}/${instanceId}`;
}

export interface WatchOptions {
  /** A watch passes entries that have these; none: everything. */
  readonly tags?: readonly string[];
  /** Told when a snapshot has ended. */
  readonly onSnapshot?: () => void;
}

/** Our nodes. */
export function waymarkMesh(servers: readonly Running[], options: WatchOptions = {}): Mesh {
  return {
    who: "waymark",
    servers,
    textOf,
    open: async (server) => {
      const wires = [await Wire.open(server.grpc), await Wire.open(server.grpc)] as const;
      return {
        change: (k, version) => wires[0].unary(PATH.register, registerBytes(k, k + 1, { version })),
        watch: (heard) => watch(wires[1], options, heard),
        close: () => wires.forEach((wire) => wire.close()),
      };
    },
  };
}

function watch(wire: Wire, { tags = [], onSnapshot }: WatchOptions, heard: Heard): Promise<void> {
  const held = new Set<string>();
  /** Not yet listed again, while a snapshot comes. */
  let unlisted = new Set<string>();
  const end = (name: string) => {
    if (held.delete(name)) heard(name, ENDED);
  };
  return new Promise((resolve, reject) => {
    const stream = wire.stream(PATH.watch, {
      onMessage: (bytes, start, stop) => {
        const message = fromBinary(CatalogWatchResponseSchema, bytes.subarray(start, stop));
        if (message.snapshot === Snapshot.BEGIN) unlisted = new Set(held);
        for (const { payload } of message.deltas) {
          if (payload.case === "removed") end(`${payload.value.name}/${payload.value.instanceId}`);
          if (payload.case !== "entry") continue;
          const { key, metadata } = payload.value;
          const name = `${key?.name}/${key?.instanceId}`;
          held.add(name);
          unlisted.delete(name);
          heard(name, Number(metadata["v"] ?? 0));
        }
        if (message.snapshot !== Snapshot.END) return;
        unlisted.forEach(end);
        onSnapshot?.();
        resolve();
      },
      onEnd: (why) => reject(new Error(`a watch ended: ${why}`)),
    });
    stream.send(toBinary(CatalogWatchRequestSchema, create(CatalogWatchRequestSchema, { namespace: NAMESPACE, tags: [...tags] })));
    stream.end();
  });
}

const STATUS = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));

/** Entries that one of our nodes holds. */
export async function countOn(node: Running): Promise<number> {
  return Number(fromBinary(NamespaceStatusResponseSchema, await ask(node, PATH.status, STATUS)).endpointCount);
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until it holds, at most `ms`; gives the milliseconds that it took. */
export async function until(isTrue: () => Promise<boolean> | boolean, what: string, ms = 120_000): Promise<number> {
  const startMs = performance.now();
  while (!(await isTrue())) {
    if (performance.now() - startMs > ms) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(20);
  }
  return performance.now() - startMs;
}

export function cpuMs(servers: readonly Pick<Running, "cpuMs">[]): number {
  return servers.reduce((sum, server) => sum + server.cpuMs(), 0);
}

/** Of all cores: all but idle and waiting for disks. */
function busyMs(): number {
  const [all = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const ticks = all.split(/\s+/).slice(1).map(Number);
  return ticks.reduce((sum, value, i) => (i === 3 || i === 4 || i > 7 ? sum : sum + value * 10), 0);
}

/**
 * Counts from now on; then says what others than these servers and this process took of all cores, 0 to 1. It is told what servers
 * took that were started meanwhile.
 */
export function othersBeside(servers: readonly Pick<Running, "cpuMs">[]): (startedMs?: number) => number {
  const ownMs = () => {
    const { user, system } = process.cpuUsage();
    return cpuMs(servers) + (user + system) / 1000;
  };
  const [startMs, busy, own] = [performance.now(), busyMs(), ownMs()];
  return (startedMs = 0) => {
    const othersMs = busyMs() - busy - (ownMs() - own) - startedMs;
    return Math.max(0, othersMs / (performance.now() - startMs) / cpus().length);
  };
}
