/** Draws what happens in a world with resolvers from a seed: a list of timed steps, of which any may be left out. */
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { keyParts } from "../../../src/catalog/record/record.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { CALLERS } from "./answers.ts";
import { KEYS, NAMES } from "./registrants.ts";
import { COPY_USES, type CopyUse } from "./resolver-disk.ts";
import type { RoamerPlan } from "./roamer.ts";
import type { ResolverPlan } from "./sim-resolver.ts";

export type ResolverStep = { readonly atMs: number } & (
  | { readonly kind: "put"; readonly key: number; readonly node: number; readonly scope: Scope; readonly isStatic: boolean }
  | { readonly kind: "end"; readonly key: number; readonly node: number }
  /** Nobody renews the leases of a name any more. */
  | { readonly kind: "lapse"; readonly name: number }
  | { readonly kind: "policy"; readonly variant: number }
  | { readonly kind: "move"; readonly roamer: number; readonly place: number }
  /** Between two of them nothing passes. */
  | { readonly kind: "cut"; readonly a: string; readonly b: string; readonly forMs: number }
  | { readonly kind: "break"; readonly a: string; readonly b: string }
  /** What is sent between two of them is on its way for up to so much longer. */
  | { readonly kind: "slow"; readonly a: string; readonly b: string; readonly byMs: number; readonly forMs: number }
  | {
      readonly kind: "restart";
      readonly resolver: number;
      readonly isSilent: boolean;
      readonly downMs: number;
      readonly copy: CopyUse;
      /** A resolver whose copy it may find. */
      readonly other: number;
    }
  /** Its connection breaks when the next versions of the policy have arrived, before the state that names them. */
  | { readonly kind: "halve"; readonly resolver: number; readonly count: number }
  /**
   * The node that it follows is cut off from the others, and is told of an entry; the resolver fetches the namespace of that, and loses the node in the middle of
   * it. `narrowed`: at the end of the snapshot, and other namespaces are let go before.
   */
  | {
      readonly kind: "strand";
      readonly resolver: number;
      readonly key: number;
      readonly act: "prewarm" | "resync";
      readonly moment: "end" | "narrowed" | "told";
      readonly putMs: number;
      readonly forMs: number;
    }
  /** The next changes that it is told get lost. */
  | { readonly kind: "lose"; readonly resolver: number; readonly count: number }
  | { readonly kind: "skew"; readonly resolver: number; readonly byMs: number; readonly forMs: number }
  /** Undefined: it never comes back. */
  | { readonly kind: "crash"; readonly node: number; readonly isSilent: boolean; readonly downMs: number | undefined }
  | { readonly kind: "partition"; readonly node: number; readonly forMs: number }
  /** A node that was not there before starts. */
  | { readonly kind: "join"; readonly node: number }
);

export interface WorldPlan {
  readonly seed: string;
  readonly nodeCount: number;
  readonly resolvers: readonly ResolverPlan[];
  readonly roamers: readonly RoamerPlan[];
  /** For each resolver, the time between two asks. */
  readonly askMs: readonly number[];
  readonly steps: readonly ResolverStep[];
  readonly activeMs: number;
  /** The node that joins late. Absent where all are there from the start. */
  readonly lateNode?: number;
}

type Followers = Omit<ResolverPlan, "copyMs" | "resyncMs">;

interface Parts {
  readonly nodeCount: number;
  readonly resolvers: readonly Followers[];
  readonly activeMs: number;
}

const FIRST_MS = 3000;
const SCOPES: readonly Scope[] = [SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL, SCOPE.ZONE, SCOPE.GLOBAL, SCOPE.LOCAL];
const FOLLOWED: readonly (readonly string[])[] = [["svc"], ["svc", "other"], [""], ["svc.eu", "svc-x"], []];

export function planOf(seed: string | number): WorldPlan {
  const rng = new Rng(`resolvers/${seed}`);
  const nodeCount = 2 + rng.int(3);
  const isLoop = rng.int(6) === 0;
  const resolvers = isLoop ? inALoop(rng) : resolversOf(rng, nodeCount);
  const activeMs = 30_000 + rng.int(20_000);
  const upkeep = new Rng(`resolvers/${seed}/upkeep`);
  const parts = { nodeCount, resolvers, activeMs };
  const steps = [...work(rng, nodeCount, activeMs), ...faults(rng, upkeep, parts), ...restarts(upkeep, parts), ...fallsBack(upkeep, parts)];
  // A reader that took something wrong along would show it everywhere, so nobody reads along where changes get lost.
  const isLossy = upkeep.int(4) === 0;
  if (isLossy) steps.push(...losses(upkeep, parts));
  if (isLoop) steps.push({ atMs: 9000 + rng.int(5000), kind: "cut", a: "r0", b: "n0", forMs: 12_000 });
  steps.push(...slowLines(new Rng(`resolvers/${seed}/slow`), parts), ...halves(new Rng(`resolvers/${seed}/halves`), parts));
  const strands = stranded(new Rng(`resolvers/${seed}/strands`), parts);
  steps.push(...strands);
  const places = nodeCount + resolvers.length;
  const roamers = Array.from({ length: 1 + rng.int(3) }, () => ({
    caller: CALLERS[rng.int(CALLERS.length)] ?? CALLERS[0]!,
    prefix: ["svc", "other", "svc.eu"][rng.int(3)] ?? "svc",
    place: rng.int(places),
  }));
  const moveMs = 2000 + rng.int(6000);
  for (let atMs = FIRST_MS; atMs < activeMs; atMs += rng.int(2 * moveMs))
    steps.push({ atMs, kind: "move", roamer: rng.int(roamers.length), place: rng.int(places) });
  const late = isLossy ? undefined : joined(new Rng(`resolvers/${seed}/late`), parts, roamers);
  // What is LOCAL at one node makes its places bad at others, so that whoever goes over begins anew.
  const isEverywhere = strands.length > 0 || late !== undefined;
  const all = late === undefined ? steps : [...steps.filter((step) => isBeside(late, step)), ...late.steps];
  return {
    seed: `resolvers/${seed}`,
    nodeCount,
    resolvers: resolvers.map((each) => ({ ...each, resyncMs: 4000 + upkeep.int(5000), copyMs: 1500 + upkeep.int(3000) })),
    roamers: isLossy ? [] : roamers,
    askMs: resolvers.map(() => (rng.int(3) === 0 ? 4000 : 150 + rng.int(500))),
    steps: all
      .filter(({ atMs }) => atMs < activeMs)
      .map((step) => (isEverywhere && step.kind === "put" && step.scope === SCOPE.LOCAL ? { ...step, scope: SCOPE.ZONE } : step))
      .toSorted((a, b) => a.atMs - b.atMs),
    activeMs,
    ...(late !== undefined && { lateNode: late.node }),
  };
}

/** The first ones have nodes above them, and later ones also resolvers; sometimes the first one has the last one, too, so that a loop may close. */
function resolversOf(rng: Rng, nodeCount: number): readonly Followers[] {
  const count = 1 + rng.int(3);
  const isLooped = count > 1 && rng.int(3) === 0;
  return Array.from({ length: count }, (_, i) => {
    const nodes = shuffled(
      rng,
      Array.from({ length: nodeCount }, (_each, n) => `n${n}`),
    ).slice(0, 1 + rng.int(nodeCount));
    const above = i > 0 && rng.int(3) > 0 ? [`r${rng.int(i)}`] : [];
    const below = isLooped && i === 0 ? [`r${count - 1}`] : [];
    return {
      name: `r${i}`,
      upstreams: rng.int(2) === 0 ? [...above, ...below, ...nodes] : [...nodes, ...above, ...below],
      namespaces: FOLLOWED[rng.int(FOLLOWED.length)] ?? [],
      guardHoldMs: 6000 + rng.int(10_000),
      // Where others follow one, it has room for what they follow.
      maxWatches: rng.int(2) === 0 && count === 1 ? 3 : 256,
    };
  });
}

/** Two that have each other as upstreams: when the first loses its node, only the second one is left, which is fed by the first. */
function inALoop(rng: Rng): readonly Followers[] {
  const alike = { namespaces: ["svc"], guardHoldMs: 6000 + rng.int(10_000), maxWatches: 256 };
  return [
    { name: "r0", upstreams: ["n0", "r1"], ...alike },
    { name: "r1", upstreams: ["r0"], ...alike },
  ];
}

function work(rng: Rng, nodeCount: number, activeMs: number): ResolverStep[] {
  const steps: ResolverStep[] = [];
  const put = (atMs: number, key: number): ResolverStep => ({
    atMs,
    kind: "put",
    key,
    node: rng.int(nodeCount),
    scope: SCOPES[rng.int(SCOPES.length)] ?? SCOPE.ZONE,
    isStatic: rng.int(3) === 0,
  });
  KEYS.forEach((_, key) => {
    if (rng.int(4) > 0) steps.push(put(FIRST_MS + rng.int(2000), key));
  });
  const meanMs = 300 + rng.int(1500);
  for (let atMs = 6000; atMs < activeMs; atMs += rng.int(2 * meanMs)) {
    const pick = rng.int(10);
    if (pick < 6) steps.push(put(atMs, rng.int(KEYS.length)));
    else if (pick < 9) steps.push({ atMs, kind: "end", key: rng.int(KEYS.length), node: rng.int(nodeCount) });
    else steps.push({ atMs, kind: "lapse", name: rng.int(NAMES.length) });
  }
  for (let n = rng.int(4); n > 0; n--) steps.push({ atMs: 4000 + rng.int(activeMs - 4000), kind: "policy", variant: rng.int(4) });
  return steps;
}

/** A world has faults of a few kinds only: those of many would hide each other. */
function faults(rng: Rng, upkeep: Rng, { nodeCount, resolvers, activeMs }: Parts): ResolverStep[] {
  const anyAt = () => 5000 + rng.int(activeMs - 5000);
  const resolver = () => rng.int(resolvers.length);
  const copyOf = () => ({ copy: COPY_USES[upkeep.int(COPY_USES.length)] ?? "none", other: upkeep.int(resolvers.length) });
  const upstreamOf = (plan: Followers | undefined) => plan?.upstreams[rng.int(plan.upstreams.length)] ?? "n0";
  const cutOff = (atMs: number, forMs: number): ResolverStep[] => {
    return cutOffOf(resolvers[resolver()], atMs, forMs);
  };
  const makers: readonly (() => readonly ResolverStep[])[] = [
    () => [{ atMs: anyAt(), kind: "cut", a: `r${resolver()}`, b: upstreamOf(resolvers[resolver()]), forMs: 300 + rng.int(15_000) }],
    () => cutOff(anyAt(), 4000 + rng.int(15_000)),
    () => {
      const plan = resolvers[resolver()];
      return Array.from({ length: 3 }, () => ({ atMs: anyAt(), kind: "break", a: plan?.name ?? "", b: upstreamOf(plan) }));
    },
    () => [{ atMs: anyAt(), kind: "restart", resolver: resolver(), isSilent: rng.int(2) === 0, downMs: 200 + rng.int(4000), ...copyOf() }],
    () => [{ atMs: anyAt(), kind: "skew", resolver: resolver(), byMs: -3_600_000, forMs: 5000 + rng.int(20_000) }],
    () => [{ atMs: anyAt(), kind: "crash", node: rng.int(nodeCount), isSilent: rng.int(2) === 0, downMs: 200 + rng.int(8000) }],
    () => [{ atMs: anyAt(), kind: "crash", node: 1 + rng.int(nodeCount - 1), isSilent: rng.int(2) === 0, downMs: undefined }],
    // The policy is narrowed while the resolver is cut off.
    () => {
      const atMs = anyAt();
      return [...cutOff(atMs, 6000 + rng.int(8000)), { atMs: atMs + 1000 + rng.int(3000), kind: "policy", variant: 1 + rng.int(3) }];
    },
    // It goes over to a node that has not heard of the newest policy.
    () => {
      const atMs = anyAt();
      const away: ResolverStep = { atMs, kind: "partition", node: 0, forMs: 5000 + rng.int(5000) };
      const cuts = resolvers.map(
        ({ name }): ResolverStep => ({ atMs: atMs + 2500, kind: "cut", a: name, b: "n0", forMs: 6000 + rng.int(5000) }),
      );
      return [away, { atMs: atMs + 800, kind: "policy", variant: 1 + rng.int(3) }, ...cuts];
    },
  ];
  const kinds = Array.from({ length: 1 + rng.int(3) }, () => makers[rng.int(makers.length)]);
  return Array.from({ length: 1 + rng.int(5) }, () => kinds[rng.int(kinds.length)]?.() ?? []).flat();
}

function cutOffOf(plan: Followers | undefined, atMs: number, forMs: number): ResolverStep[] {
  return (plan?.upstreams ?? []).map((b) => ({ atMs, kind: "cut", a: plan?.name ?? "", b, forMs }));
}

/** In some worlds resolvers restart while they reach no server, and have only what is on their disks. */
function restarts(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  return Array.from({ length: Math.max(0, rng.int(5) - 2) }, () => {
    const [atMs, resolver] = [8000 + rng.int(activeMs - 10_000), rng.int(resolvers.length)];
    const forMs = 5000 + rng.int(8000);
    const use = rng.int(2) === 0 ? "newest" : (COPY_USES[rng.int(COPY_USES.length)] ?? "none");
    const restart = { kind: "restart", resolver, isSilent: rng.int(2) === 0, copy: use, other: rng.int(resolvers.length) } as const;
    return [...cutOffOf(resolvers[resolver], atMs, forMs), { ...restart, atMs: atMs + rng.int(2000), downMs: 200 + rng.int(2000) }];
  }).flat();
}

/** A resolver begins at a node that alone has the newest policy, and goes over to one that has an older policy, which the resolver never had. */
function fallsBack(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  const resolver = resolvers.findIndex(({ upstreams }) => upstreams.includes("n0") && upstreams.length > 1);
  const { name = "", upstreams = [] } = resolvers[resolver] ?? {};
  if (name === "" || rng.int(4) > 0) return [];
  const atMs = 8000 + rng.int(activeMs - 20_000);
  const policy = (afterMs: number): ResolverStep => ({ atMs: atMs + afterMs, kind: "policy", variant: 1 + rng.int(3) });
  const cut = (afterMs: number, b: string): ResolverStep => ({ atMs: atMs + afterMs, kind: "cut", a: name, b, forMs: 4500 });
  const restart = { kind: "restart", resolver, isSilent: false, downMs: 300, copy: "none", other: resolver } as const;
  const others = upstreams.filter((each) => each !== "n0").map((each) => cut(3500, each));
  const parted: ResolverStep = { atMs: atMs + 2500, kind: "partition", node: 0, forMs: 12_000 };
  return [policy(0), parted, policy(3300), ...others, { atMs: atMs + 3600, ...restart }, cut(8000, "n0")];
}

/** In some worlds what servers say is on its way for long: sometimes for so long that they seem to be silent, or that probes fail. */
function slowLines(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  if (rng.int(3) > 0) return [];
  return Array.from({ length: 1 + rng.int(4) }, () => {
    const { name = "", upstreams = [] } = resolvers[rng.int(resolvers.length)] ?? {};
    const atMs = 5000 + rng.int(activeMs - 5000);
    const b = upstreams[rng.int(upstreams.length)] ?? "n0";
    return { atMs, kind: "slow", a: name, b, byMs: [300, 1000, 2500][rng.int(3)] ?? 300, forMs: 2000 + rng.int(12_000) };
  });
}

/** In some worlds a connection breaks between a version of the policy and the state that names it, maybe at several servers in turn. */
function halves(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  if (rng.int(3) > 0) return [];
  return Array.from({ length: 1 + rng.int(2) }, () => {
    const atMs = 6000 + rng.int(activeMs - 6000);
    const policy: ResolverStep = { atMs: atMs + 1, kind: "policy", variant: rng.int(4) };
    return [{ atMs, kind: "halve", resolver: rng.int(resolvers.length), count: 2 + rng.int(2) } as const, policy];
  }).flat();
}

/** In some worlds resolvers go over to nodes that lack what the resolver was just told. */
function stranded(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  const able = resolvers.flatMap(({ upstreams }, i) => (upstreams.filter((each) => each.startsWith("n")).length > 1 ? [i] : []));
  if (able.length === 0 || rng.int(3) > 0) return [];
  return Array.from({ length: 2 + rng.int(3) }, () => ({
    atMs: 8000 + rng.int(activeMs - 8000),
    kind: "strand",
    resolver: able[rng.int(able.length)] ?? 0,
    key: rng.int(KEYS.length),
    act: rng.int(2) === 0 ? "prewarm" : "resync",
    moment: (["end", "narrowed", "told"] as const)[rng.int(3)] ?? "end",
    putMs: rng.int(150),
    forMs: 2000 + rng.int(2000),
  }));
}

interface Late {
  readonly node: number;
  readonly joinMs: number;
  readonly steps: readonly ResolverStep[];
}

/** So long after it joined a node is whole, and what is put there is known everywhere. */
const JOINED_MS = 4000;
/** By then leases of what was put elsewhere have ended. */
const QUIET_MS = 6500;

/** In some worlds a node joins late, and is the only one where anything happens; clients hear nothing of it, and then go on elsewhere. */
function joined(rng: Rng, { nodeCount, resolvers, activeMs }: Parts, roamers: readonly RoamerPlan[]): Late | undefined {
  if (nodeCount < 3 || rng.int(3) > 0) return undefined;
  const [node, joinMs] = [nodeCount - 1, 10_000 + rng.int(activeMs - 22_000)];
  const read = new NamespacePrefixes(roamers.map(({ prefix }) => prefix));
  const keys = KEYS.flatMap((key, i) => (read.covers(keyParts(key).namespace) ? [i] : []));
  const put = (): ResolverStep => ({
    atMs: joinMs + 1500 + rng.int(1500),
    kind: "put",
    key: keys[rng.int(keys.length)] ?? 0,
    node,
    scope: SCOPE.ZONE,
    isStatic: false,
  });
  const places = [...Array.from({ length: nodeCount }, (_, n) => `n${n}`), ...resolvers.map(({ name }) => name)];
  const moves = roamers.map((_, roamer): ResolverStep[] => [
    ...places.map((b): ResolverStep => ({ atMs: joinMs - 200, kind: "cut", a: `c${roamer}`, b, forMs: JOINED_MS + 200 })),
    { atMs: joinMs + JOINED_MS - 100, kind: "move", roamer, place: nodeCount + rng.int(resolvers.length) },
  ]);
  return { node, joinMs, steps: [{ atMs: joinMs, kind: "join", node }, put(), put(), put(), ...moves.flat()] };
}

/** Whether a step may be taken where a node joins late: just then nothing else happens. */
function isBeside({ node, joinMs }: Late, step: ResolverStep): boolean {
  const isJust = step.atMs > joinMs - QUIET_MS && step.atMs < joinMs + JOINED_MS;
  if (isJust || step.atMs > joinMs) return !isJust;
  // A node that reaches none of the others serves alone.
  if (step.kind === "partition" || step.kind === "strand") return step.atMs + step.forMs < joinMs - 1000;
  return step.kind !== "crash" || (step.node !== node && step.downMs !== undefined && step.atMs + step.downMs < joinMs - 1000);
}

function losses(rng: Rng, { resolvers, activeMs }: Parts): ResolverStep[] {
  return Array.from({ length: 1 + rng.int(6) }, () => ({
    atMs: 5000 + rng.int(activeMs - 5000),
    kind: "lose",
    resolver: rng.int(resolvers.length),
    count: 1 + rng.int(3),
  }));
}

function shuffled<T>(rng: Rng, items: readonly T[]): readonly T[] {
  return items
    .map((item) => ({ item, at: rng.next() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** A step as one line for people. */
export function wordsOf({ atMs, kind, ...rest }: ResolverStep): string {
  return `${(atMs / 1000).toFixed(3).padStart(9)} ${kind} ${JSON.stringify(rest)}`;
}
