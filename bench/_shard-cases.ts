/** What `bench/shards.ts` measures beside kills: calls, routes and plans, the delay of moves at clients, joining owners, and drains under load. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ShardService } from "../gen/waymark/control/v1/shard_pb.js";
import { type PlanInput, type PlanOwner, type PlanShard, place, planMoves } from "../src/control/shards/plan.ts";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { cpuMsOf, NODE_OPTIONS, type Running } from "./_processes.ts";
import { instanceOf, type ShardFleet } from "./_shard-fleet.ts";
import { OwnerGroup } from "./_shard-owners.ts";
import type { SeenMove } from "./_shard-watchers-child.ts";
import { FencedLog, ShardWork } from "./_shard-work.ts";
import { fail } from "./_work.ts";

/** Time between two calls of `Get`: a light rate. */
export const CALL_MS = 10;
/** Calls before the measured ones, because Node compiles code while it runs. */
const WARM_CALLS = 300;
const ROUTES = 200_000;
const WARM_ROUTES = 20_000;

type Servers = readonly Pick<Running, "cpuMs">[];

/** The latencies (ms) of `Get` for shards of a set, one call at a time. */
export async function getTimes(fleet: ShardFleet, namespace: string, calls: number, shards: number): Promise<readonly number[]> {
  const tookMs: number[] = [];
  for (let i = -WARM_CALLS; i < calls; i++) {
    const startMs = performance.now();
    await fleet.client.call(ShardService.method.get, { namespace, shard: { case: "id", value: (Math.abs(i) * 7) % shards } });
    if (i >= 0) tookMs.push(performance.now() - startMs);
    await sleep(CALL_MS);
  }
  return tookMs;
}

/** The times (µs) of `route` in this process, each for another key. */
export async function routeTimes(fleet: ShardFleet, namespace: string): Promise<readonly number[]> {
  const shards = fleet.client.shards(namespace);
  await shards.ready();
  const keys = Array.from({ length: ROUTES }, (_, i) => `customer-${i}`);
  for (const key of keys.slice(0, WARM_ROUTES)) shards.route(key);
  return keys.map((key) => {
    const startNs = process.hrtime.bigint();
    shards.route(key);
    return Number(process.hrtime.bigint() - startNs) / 1000;
  });
}

const PLANS = 20;
const ROWS_PER_CHANGE = 48;

export interface PlanTimes {
  readonly plan: string;
  readonly moves: number;
  /** Each plan is one call, which blocks the event loop for its whole time (ms). */
  readonly tookMs: readonly number[];
}

/** The times of plans in this process. */
export function planTimes(shardCount: number, ownerCount: number): readonly PlanTimes[] {
  const owners = Array.from({ length: ownerCount }, (_, i) => ownerOf(i));
  const unowned = Array.from({ length: shardCount }, (_, id): PlanShard => ({ id, weight: 1, hint: "", owner: "", mayMove: true }));
  const input: PlanInput = { namespace: "plans", strategy: "rendezvous", owners, shards: unowned };
  const placed = new Map(place(input, shardCount).map(({ id, to }) => [id, to]));
  const shards = unowned.map((shard) => ({ ...shard, owner: placed.get(shard.id) ?? "" }));
  const balanced: PlanInput = { ...input, shards };
  const joined: PlanInput = { ...balanced, owners: [...owners, ownerOf(ownerCount)] };
  const left: PlanInput = { ...balanced, owners: owners.map((owner, i) => ({ ...owner, isLeaving: i < ownerCount / 2 })) };
  const lost: PlanInput = { ...balanced, owners: owners.slice(1) };
  const cases: readonly (readonly [string, () => readonly unknown[]])[] = [
    ["all shards placed in one plan", () => place(input, shardCount)],
    ["shards placed of one change, after an owner ended", () => place(lost, ROWS_PER_CHANGE)],
    ["a balanced set, no moves", () => planMoves(balanced, { isForced: false })],
    ["an owner joined", () => planMoves(joined, { isForced: false })],
    ["half of the owners leave, forced", () => planMoves(left, { isForced: true })],
  ];
  return cases.map(([plan, make]) => {
    let moves = 0;
    const tookMs = Array.from({ length: PLANS }, () => {
      const startMs = performance.now();
      moves = make().length;
      return performance.now() - startMs;
    });
    return { plan, moves, tookMs };
  });
}

function ownerOf(i: number): PlanOwner {
  return { instance: `owner-${i}`, weight: 1, zone: "", region: "", slots: 0, isLeaving: false, isClosed: false };
}

const WATCHERS = fileURLToPath(new URL("_shard-watchers-child.ts", import.meta.url));
const WATCHER_PROCESSES = 4;
const MOVE_WAIT_MS = 60_000;

export interface WatchedMoves {
  /** Of each move and client: from the log line of the controller until the client's map showed the move, in ms. */
  readonly tookMs: readonly number[];
  readonly others: number;
}

/** Moves one shard between two owners again and again, while clients follow it. */
export async function watchedMoves(fleet: ShardFleet, clients: number, moves: number, servers: Servers): Promise<WatchedMoves> {
  const namespace = "moves";
  await fleet.apply(namespace, { count: 1, cooldown: durationFromMs(0) });
  const owners = new OwnerGroup(fleet.owners(namespace, 2), 1);
  await owners.start(1);
  const [program = fail()] = owners.processes;
  const [children, seen] = await startWatchers(fleet, namespace, clients);
  const watchers = children.map(({ pid = 0 }) => ({ cpuMs: () => cpuMsOf(pid) }));
  const others = othersBeside([...servers, ...watchers, program]);
  const fromMs = Date.now();
  for (let i = 0; i < moves; i++) {
    // Clients can see the next owner before it may act.
    await owners.owned();
    const [owner = ""] = owners.counts().keys();
    program.send(`leave ${owner}`);
    const before = seen.length;
    await until(() => seen.length >= before + WATCHER_PROCESSES, "all clients see a move", MOVE_WAIT_MS);
    await program.saying(owner, "left");
    program.send(`attach ${owner}`);
    await program.saying(owner, "attached");
  }
  const share = others();
  const tookMs = fleet.changes(namespace, fromMs).flatMap(({ epoch, atMs }) => {
    const times = seen.filter((move) => move.epoch === epoch);
    return times.flatMap((move) => move.atMs.map((ms) => ms - atMs));
  });
  for (const child of children) child.disconnect();
  await owners.stop();
  return { tookMs, others: share };
}

async function startWatchers(
  fleet: ShardFleet,
  namespace: string,
  clients: number,
): Promise<readonly [readonly ChildProcess[], SeenMove[]]> {
  const seen: SeenMove[] = [];
  const children = Array.from({ length: WATCHER_PROCESSES }, (_, i) =>
    fork(WATCHERS, [fleet.serversFrom(i).join(","), namespace, "key", String(clients / WATCHER_PROCESSES)], {
      execArgv: [...NODE_OPTIONS],
    }),
  );
  for (const child of children) process.on("exit", () => child.kill("SIGKILL"));
  await Promise.all(children.map((child) => once(child, "message")));
  for (const child of children) child.on("message", (move: SeenMove) => seen.push(move));
  return [children, seen];
}

/** A set is balanced when no owner has more than this many fair shares. */
const LIMIT_RATIO = 1.1;
const JOIN_WAIT_MS = 90_000;
const PLAN_LOOK_MS = 200;

export interface JoinedOwner {
  readonly shards: number;
  /** The number of moves of each plan. */
  readonly plans: readonly number[];
  readonly seconds: number;
  /** Largest number of shards of an owner, in fair shares. */
  readonly imbalance: number;
}

/** An owner joins three others: the plans until the set is balanced. */
export async function joinOwner(fleet: ShardFleet, round: number, shards: number): Promise<JoinedOwner> {
  const namespace = `joins-${round}`;
  const owners = 3;
  // Shards rest for the cooldown after they were placed.
  await fleet.apply(namespace, { count: shards, cooldown: durationFromMs(0) });
  const group = new OwnerGroup(fleet.owners(namespace, owners), shards);
  await group.start(1);
  const [program = fail()] = group.processes;
  const joined = instanceOf(namespace, 0, owners);
  const startMs = performance.now();
  program.send(`attach ${joined}`);
  await program.saying(joined, "attached");
  const fair = shards / (owners + 1);
  const mostOf = () => Math.max(...group.counts().values());
  const isBalanced = () => (group.counts().get(joined) ?? 0) > 0 && mostOf() <= Math.ceil(LIMIT_RATIO * fair);
  const isOver = async () => (await fleet.plans(namespace)).every(({ hasEnded }) => hasEnded);
  while (!(isBalanced() && (await isOver())) && performance.now() - startMs < JOIN_WAIT_MS) await sleep(PLAN_LOOK_MS);
  const seconds = (performance.now() - startMs) / 1000;
  await group.quiet();
  const plans = (await fleet.plans(namespace)).map(({ moves }) => moves);
  await group.stop();
  return { shards, plans, seconds, imbalance: mostOf() / fair };
}

const DRAIN_OWNERS = 4;
const BEFORE_MS = 5000;
const AFTER_MS = 1000;

export const PHASES = ["the next owner prepares", "the owner drains", "the next owner may act"] as const;
/** The times (ms) of the phases of a hand-over: between the changes of the controller, and until `onOwn`. */
export type HandoverPhases = Readonly<Record<(typeof PHASES)[number], number>>;

function phasesOf(fleet: ShardFleet, group: OwnerGroup, namespace: string, sinceMs: number): readonly HandoverPhases[] {
  const [prepared, draining] = (["prepared", "draining"] as const).map(
    (what) => new Map(fleet.changes(namespace, sinceMs, what).map(({ id, atMs }) => [id, atMs])),
  );
  return fleet.changes(namespace, sinceMs).flatMap(({ id, atMs }) => {
    const [preparedMs, drainingMs, actsMs] = [prepared?.get(id), draining?.get(id), group.ownedMs(id)];
    if (preparedMs === undefined || drainingMs === undefined || actsMs < sinceMs) return [];
    const [prepares, drains, acts] = PHASES;
    return [{ [prepares]: drainingMs - preparedMs, [drains]: atMs - drainingMs, [acts]: actsMs - atMs }];
  });
}

export interface Drained {
  /** Of each shard that moved: the time between the effects of both owners beyond the usual interval, in ms. */
  readonly gapsMs: readonly number[];
  readonly phases: readonly HandoverPhases[];
  /** Latencies of items before and during the drains, in ms. */
  readonly rounds: readonly { readonly before: readonly number[]; readonly during: readonly number[]; readonly tookMs: number }[];
  readonly items: number;
  readonly lost: number;
  readonly doubled: number;
  readonly rejected: number;
  readonly others: number;
}

export interface DrainOptions {
  readonly shards: number;
  readonly drains: number;
  readonly intervalMs: number;
}

/** Owners give up their shards one after the other under load. */
export async function drainOwners(fleet: ShardFleet, { shards, drains, intervalMs }: DrainOptions, servers: Servers): Promise<Drained> {
  const namespace = "drains";
  const log = new FencedLog();
  await fleet.apply(namespace, { count: shards, cooldown: durationFromMs(0) });
  const group = new OwnerGroup(fleet.owners(namespace, 1, await log.port), shards);
  await group.start(DRAIN_OWNERS);
  await fleet.client.shards(namespace).ready();
  const others = othersBeside([...servers, ...group.processes]);
  const work = new ShardWork(fleet.client, namespace, { count: shards, intervalMs });
  const rounds: { before: readonly number[]; during: readonly number[]; tookMs: number }[] = [];
  const gapsMs: number[] = [];
  const phases: HandoverPhases[] = [];
  for (let i = 0; i < drains; i++) {
    const [k, owner] = [i % DRAIN_OWNERS, instanceOf(namespace, i % DRAIN_OWNERS, 0)];
    const program = group.processes[k] ?? fail();
    await sleep(BEFORE_MS);
    const [startMs, startWallMs] = [performance.now(), Date.now()];
    program.send(`leave ${owner}`);
    await program.saying(owner, "left");
    const endMs = performance.now();
    await sleep(AFTER_MS);
    gapsMs.push(...log.handovers(startMs).map((ms) => Math.max(0, ms - intervalMs)));
    phases.push(...phasesOf(fleet, group, namespace, startWallMs));
    rounds.push({
      before: work.latencies(startMs - BEFORE_MS, startMs),
      during: work.latencies(startMs, endMs),
      tookMs: endMs - startMs,
    });
    program.send(`attach ${owner}`);
    await until(() => program.owned.size > shards / DRAIN_OWNERS / 2, `${owner} has shards again`, JOIN_WAIT_MS);
    await group.quiet();
  }
  const share = others();
  await work.stop();
  await group.stop();
  for (const { item, error, tookMs } of work.sent.filter((each) => each.error !== undefined))
    console.error(`${item}: ${tookMs} ms: ${error}`);
  const counts = work.sent.map(({ item }) => log.countOf(item));
  return {
    gapsMs,
    phases,
    rounds,
    items: counts.length,
    lost: counts.filter((count) => count === 0).length,
    doubled: counts.filter((count) => count > 1).length,
    rejected: log.rejected,
    others: share,
  };
}
