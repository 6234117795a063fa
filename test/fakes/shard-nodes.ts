/** Shards of real nodes: their sets, the rows that each node answers, and owners in processes of their own. */
import { join } from "node:path";
import { ROOT } from "../../scripts/run.ts";
import { compareFences, connect, type FenceToken, type ShardOwnership, type ShardTerm } from "../../src/client/index.ts";
import type { FencedLog } from "./fenced-log.ts";
import { callNode } from "./leader-nodes.ts";
import { CommandProcess, type NodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

/** Name of the service whose instances own the shards. */
const SERVICE = "worker";

/** A shard as a node answers it over HTTP. */
export interface ListedShard {
  readonly id: number;
  readonly status: string;
  readonly owner: string;
  readonly nextOwner: string;
  readonly nodeId: string;
  readonly reason: string;
  readonly fence: FenceToken;
  readonly epoch: number;
}

export interface ShardList {
  readonly shards: readonly ListedShard[];
  readonly unownedCount: number;
  readonly epoch: number;
  readonly checksum: string;
  /** Time (ms) since the control store last answered the node. */
  readonly ageMs: number;
}

interface ListAnswer {
  readonly shards: readonly (Omit<ListedShard, "epoch" | "fence"> & {
    readonly epoch: string;
    readonly fence?: Record<keyof FenceToken, string>;
  })[];
  readonly sets: readonly { readonly epoch: string; readonly checksum: string; readonly unownedCount: number }[];
  readonly store?: { readonly age?: string };
}

const NO_FENCE = { failoverVersion: "0", storeEpoch: "0", number: "0" };

/** Creates a set, with short times for hand-overs. A busy disk can make etcd miss the deadline of a request. */
export async function applySet(node: NodeProcess, namespace: string, settings: object): Promise<void> {
  const request = { namespace, settings: { service: SERVICE, cooldown: "0s", ...settings } };
  await until(`the set ${namespace} is applied`, async () => {
    const { isOk, body } = await callNode(node, "waymark.control.v1.ShardService/Apply", request);
    return isOk || [String(body.message)];
  });
}

/** The shards of a namespace, as this node knows them. */
export async function shardsOf(node: NodeProcess, namespace: string): Promise<ShardList> {
  const answer = await fetch(`http://${node.listeners["http"]}/control/shards?namespace=${namespace}&limit=1000`);
  if (!answer.ok) throw new Error(await answer.text());
  const { shards, sets, store } = (await answer.json()) as ListAnswer;
  const [set] = sets;
  return {
    shards: shards.map(({ fence = NO_FENCE, epoch, ...shard }) => {
      const { failoverVersion, storeEpoch, number } = fence;
      const numbers = { failoverVersion: Number(failoverVersion), storeEpoch: Number(storeEpoch), number: Number(number) };
      return { ...shard, epoch: Number(epoch), fence: numbers };
    }),
    epoch: Number(set?.epoch ?? 0),
    checksum: set?.checksum ?? "",
    unownedCount: set?.unownedCount ?? 0,
    ageMs: 1000 * Number.parseFloat(store?.age ?? "0"),
  };
}

/** Waits until all these nodes answer the same, and that is so. Returns the list. */
export async function shardsUntil(
  what: string,
  nodes: readonly NodeProcess[],
  namespace: string,
  isSo: (list: ShardList) => boolean,
  withinMs?: number,
): Promise<ShardList> {
  let last: ShardList | undefined;
  const look = async () => {
    const lists = await Promise.all(nodes.map((node) => shardsOf(node, namespace)));
    [last] = lists;
    return lists.every((list) => list.epoch === last?.epoch && list.checksum === last.checksum && isSo(list)) ? [] : lists.map(seen);
  };
  await until(what, look, withinMs);
  if (last === undefined) throw new Error("there are no nodes");
  return last;
}

function seen({ epoch, shards }: ShardList): string {
  const counts = Object.entries(countsOf(shards)).map(([owner, count]) => `${owner || "none"}=${count}`);
  const moving = shards.filter(({ nextOwner, status }) => nextOwner !== "" || status !== "SHARD_STATUS_ACTIVE").length;
  return `epoch ${epoch}: ${counts.join(" ")}, ${moving} moving`;
}

/** Number of shards of each owner. */
export function countsOf(shards: readonly ListedShard[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { owner } of shards) counts[owner] = (counts[owner] ?? 0) + 1;
  return counts;
}

/** Whether these instances own all shards, each of them some, and no shard moves. */
export function areOwnedBy(...instances: readonly string[]) {
  return ({ shards }: ShardList): boolean => {
    const owners = new Set(shards.map(({ owner }) => owner));
    const areSame = owners.size === instances.length && instances.every((instance) => owners.has(instance));
    return areSame && shards.every(({ status, nextOwner }) => status === "SHARD_STATUS_ACTIVE" && nextOwner === "");
  };
}

/** Whether the fences of these shards are greater than before. */
export function areFencesLater(before: readonly ListedShard[], after: readonly ListedShard[]): boolean {
  return before.every(({ id, fence }) => compareFences(after[id]?.fence ?? fence, fence) > 0);
}

/** Starts `shard-owner-child.ts`, and waits until a node has accepted the owner. */
export async function startOwner(
  instance: string,
  namespace: string,
  log: FencedLog,
  nodes: readonly NodeProcess[],
): Promise<CommandProcess> {
  const servers = nodes.map(({ grpc }) => grpc);
  const child = join(ROOT, "test/fakes/shard-owner-child.ts");
  const owner = new CommandProcess([child, instance, log.url, namespace, ...servers], "", [], process.execPath);
  await owner.line(/^attached$/);
  return owner;
}

/** Owners in the test's process. It notes each time at which two of them act for a shard. */
export class LocalOwners {
  readonly namespace: string;
  readonly overlaps: string[] = [];
  /** The last term of each shard. */
  readonly #terms = new Map<number, { readonly instance: string; readonly term: ShardTerm }>();

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  begin(instance: string, term: ShardTerm): void {
    const last = this.#terms.get(term.id);
    this.#terms.set(term.id, { instance, term });
    if (last === undefined) return;
    if (last.term.isConfirmed && last.instance !== instance) this.overlaps.push(`${term.fenceText}: ${last.instance} and ${instance}`);
    if (compareFences(term.fence, last.term.fence) <= 0) this.overlaps.push(`${term.fenceText} after ${last.term.fenceText}`);
  }

  /** The terms under which owners can act. */
  get valid(): readonly ShardTerm[] {
    return [...this.#terms.values()].flatMap(({ term }) => (term.isValid() ? [term] : []));
  }
}

/** An owner in the test's process, whose callbacks wait at its gates. */
export class LocalOwner implements Disposable {
  /** Callbacks wait for these. */
  preparing: Promise<void> = Promise.resolve();
  draining: Promise<void> = Promise.resolve();
  lostCount = 0;
  readonly #client: ReturnType<typeof connect>;
  readonly #abort = new AbortController();
  #ownership: ShardOwnership | undefined;

  private constructor(nodes: readonly NodeProcess[]) {
    this.#client = connect({ servers: nodes.map(({ grpc }) => grpc), findServers: false });
  }

  static async start(owners: LocalOwners, instance: string, nodes: readonly NodeProcess[]): Promise<LocalOwner> {
    const owner = new LocalOwner(nodes);
    const { namespace } = owners;
    await owner.#client.register([{ key: { namespace, name: SERVICE, instanceId: instance }, targets: [{ host: "127.0.0.1", port: 1 }] }]);
    owner.#ownership = await owner.#client.shards(namespace).own({
      instance,
      onPrepare: () => owner.preparing,
      onOwn: (term) => owners.begin(instance, term),
      onDrain: () => owner.draining,
      onLost: () => void owner.lostCount++,
      signal: owner.#abort.signal,
    });
    return owner;
  }

  leave(options?: { readonly timeoutMs: number }): Promise<void> {
    return this.#ownership?.leave(options) ?? Promise.resolve();
  }

  /** The owner stops immediately. */
  [Symbol.dispose](): void {
    this.#abort.abort();
    this.#client.close();
  }
}
