/** What must hold at every moment, and what must hold once everything has come to rest. */
import { isDeepStrictEqual } from "node:util";
import { type OriginRelation, SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { BODY, type CatalogRecord, type KeyText, keyParts } from "../../src/catalog/record/record.ts";
import { settledOf } from "../../src/catalog/record/stored-record.ts";
import { endsBeforeHlc, isNarrowing } from "../../src/catalog/replica/view.ts";
import type { FabricEvent } from "../../src/fabric/io-types.ts";
import { isNewer } from "../../src/policy/versions/version.ts";
import { linesOf } from "../fakes/copies.ts";
import type { Checks } from "./checks.ts";
import type { Client } from "./clients.ts";
import type { Ended, Model, Promised } from "./model.ts";
import type { Place } from "./sim-copy.ts";
import { type SimNode, type SimProcess, type Watching } from "./sim-node.ts";
import type { World } from "./world.ts";

/** The most calls that a process may leave unanswered. */
const MAX_ASKED = 2000;

export interface InvariantParts {
  readonly world: World;
  readonly nodes: readonly SimNode[];
  readonly model: Model;
  readonly checks: Checks;
  /** How often each event happened, by name. */
  readonly events: Map<string, number>;
  /** When something last went wrong or was put right. */
  readonly disturbedMs: () => number;
  /** Called when readers of a process may see another record of a key. */
  readonly onTouched?: (process: SimProcess, key: KeyText) => void;
}

/** Turns between two looks at all of a copy, and between two copies. */
const COPY_CHECKED = 31;
const COPY_TURNS = 500;

/** What a ready node knew when another node started. */
interface Known {
  readonly node: SimNode;
  readonly life: number;
  readonly vector: ReadonlyMap<string, number>;
}

/** An end written by a node that knew of an `unregistered` record of the key. */
interface KnowingEnd extends Said {
  readonly of: Ended;
}

/** The origin of a record, its number, and how far it is told. */
type Said = Pick<Ended, "originId" | "seq" | "reach">;

interface Life {
  readonly throughs: Map<string, number>;
  floor: number;
  readonly known: readonly Known[];
  wasReady: boolean;
  turns: number;
  /** Until then no other copy begins. */
  copyUntil: number;
}

export class Invariants implements Watching {
  readonly #parts: InvariantParts;
  readonly #byId = new Map<string, SimNode>();
  /** What was said under each origin and seq, and when it was first seen. */
  readonly #said = new Map<string, { readonly said: string; readonly atMs: number }>();
  /** What nodes on restored disks said under numbers that they may have used before. */
  readonly #again = new Set<string>();
  readonly #lifecycle = new Map<SimProcess, Life>();
  /** Ends that were noted when they were staged, by origin and seq. */
  readonly #staged = new Set<string>();
  readonly #knowing = new Map<KeyText, KnowingEnd[]>();

  constructor(parts: InvariantParts) {
    this.#parts = parts;
  }

  add(node: SimNode): void {
    this.#byId.set(node.name, node);
  }

  // ---- at every moment ----

  /** Who put a policy in force is told so when readers see it everywhere. */
  shown({ name }: SimNode, { copy, switches, reads }: SimProcess): void {
    const isNextDue = switches.isRunning || !reads.isSettled;
    const isShown = copy?.isWhole !== true || isNextDue || copy.reads.isSettled;
    this.#parts.checks.holds(isShown, "copy", () => `${name}: a policy is acknowledged that ${copy?.name} has not shown`);
  }

  started(node: SimNode, process: SimProcess): void {
    const { nodes } = this.#parts;
    const ready = nodes.filter(
      (other) => other !== node && other.process?.isReady === true && other.options.clusterId === node.options.clusterId,
    );
    const known = ready.map((other) => ({ node: other, life: other.life, vector: vectorOf(other) }));
    for (const old of this.#lifecycle.keys()) if (old.node === node) this.#lifecycle.delete(old);
    this.#lifecycle.set(process, {
      throughs: new Map(),
      floor: process.replica.self.floor,
      known,
      wasReady: false,
      turns: 0,
      copyUntil: 0,
    });
    for (const stored of process.replica.self.log.list()) this.#note(node, process, stored);
    this.#noteHolders(node, process);
  }

  ended(node: SimNode, process: SimProcess): void {
    this.#noteHolders(node, process);
  }

  /** For each promised entry that this node holds, or held before it ended: notes whether any running node of its cluster holds it now. */
  #noteHolders(node: SimNode, process: SimProcess): void {
    const { nodes, model } = this.#parts;
    const { clusterId } = node.options;
    // A node that has started must hold what its snapshot had.
    const hasSaved = (key: KeyText) => node.process === process && node.disk.saved.has(key);
    const holds = (key: KeyText, by: SimProcess | undefined) => by?.replica.records(key).some(({ body }) => body === BODY.ENTRY) === true;
    for (const [key, promised] of model.promised) {
      if (keyParts(key).clusterId !== clusterId || !(holds(key, process) || hasSaved(key))) continue;
      const isRunning = hasSaved(key) || nodes.some((other) => other.options.clusterId === clusterId && holds(key, other.process));
      model.promised.set(key, { ...promised, isOnDisks: !isRunning });
    }
  }

  event(node: SimNode, { name, detail }: FabricEvent): void {
    this.#parts.events.set(name, (this.#parts.events.get(name) ?? 0) + 1);
    // Digests repair differences that only bugs and lost journals cause.
    const isRepair = name === "origin_diverged" && !this.#parts.checks.hasLost;
    this.#parts.checks.holds(!isRepair, "P6", () => `${node.name} repairs ${JSON.stringify(detail)}`);
    const isDisproved = name === "origin_disproved" && !this.#parts.checks.hasLost;
    this.#parts.checks.holds(!isDisproved, "vector", () => `${node.name} forgets what was written: ${JSON.stringify(detail)}`);
  }

  /** All nodes take each other's policy here, so a node that is given records has the policy of the giver already. */
  gave({ name }: SimNode, process: SimProcess, { nodeId, generation }: { readonly nodeId: string; readonly generation: number }): void {
    const peer = this.#byId.get(nodeId)?.process;
    // A restored backup may hold less than its node said before.
    if (peer?.replica.self.generation !== generation || this.#parts.checks.hasLostOf(nodeId)) return;
    const [ours, theirs] = [process.policies.place, peer.policies.place];
    const words = () => `${name} with policy ${ours.number} gives ${nodeId} records, which has ${theirs.number}`;
    this.#parts.checks.holds(!isNewer(ours, theirs), "policy first", words);
  }

  staticEnded(key: KeyText): void {
    this.#parts.model.told.add(key);
  }

  endedEarly({ name }: SimNode, detail: string): void {
    this.#parts.checks.holds(false, "lease", () => `${name}: ${detail}`);
  }

  turned(node: SimNode, process: SimProcess): void {
    for (const key of process.registrar.entryRemovals.takeEndedStatic()) this.#parts.model.told.add(key);
    this.#noteStaged(node, process);
    process.forEachNew((stored) => {
      this.#parts.onTouched?.(process, stored.key);
      this.#checkRecord(node, process, stored);
      return true;
    });
    const life = this.#lifecycle.get(process);
    if (life === undefined) return;
    this.#checkCopy(node, process, life);
    this.#checkVector(node, process, life);
    this.#noteDropped(node, process, life);
    if (process.isReady && !life.wasReady) {
      life.wasReady = true;
      this.#checkReadiness(node, process, life);
    }
    const { askedCount } = node;
    this.#parts.checks.holds(askedCount < MAX_ASKED, "bounds", () => `${node.name}: ${askedCount} calls not answered`);
  }

  /** The copy is made in slices of a few records, and is then told of every turn. All of it is looked at now and then. */
  #checkCopy({ name }: SimNode, process: SimProcess, life: Life): void {
    const { copy, replica } = process;
    if (copy === undefined) return;
    copy.refresh();
    life.turns += 1;
    // A copy begins best while something is owed to many records.
    const isMoving = replica.sweeps.isOwed || replica.isForgetting || process.switches.isBusy;
    if (isMoving && life.turns > life.copyUntil) {
      life.copyUntil = life.turns + COPY_TURNS;
      process.renewCopy();
    }
    if (!copy.isWhole) return;
    const shows = ({ reads, policies }: Place) => reads.policy === policies.policy;
    this.#parts.checks.holds(shows(copy) === shows(process.place), "copy", () => `${name}: its copy shows a policy when the node does not`);
    if (life.turns % COPY_CHECKED !== 0) return;
    const [ours, theirs] = [linesOf(copy.replica), linesOf(replica)];
    const differing = ours.findIndex((line, i) => line !== theirs[i]);
    const isEqual = differing < 0 && ours.length === theirs.length;
    this.#parts.checks.holds(isEqual, "copy", () => `${name}: its copy says ${ours[differing]}, the replica ${theirs[differing]}`);
    for (const [key, load] of process.registrar.loads.list())
      this.#parts.checks.holds(isDeepStrictEqual(copy.loads.of(key), load), "copy", () => `${name}: its copy has another load of ${key}`);
  }

  #checkRecord(node: SimNode, process: SimProcess, stored: CatalogRecord): void {
    const { checks, model } = this.#parts;
    const origin = this.#byId.get(stored.origin.nodeId);
    if (origin === undefined) return;
    const relation = relationOf(node, origin);
    const may = mayHold(stored.body === BODY.ENTRY ? stored.scope : stored.reach, relation);
    checks.holds(
      may,
      "P1",
      () =>
        `${node.name} holds ${stored.body === BODY.ENTRY ? "an entry" : "a tombstone"} of ${stored.key}, scope ${stored.scope}, reach ${stored.reach}, of ${origin.name} (${relation})`,
    );
    this.#note(node, process, stored);
    // An unregistered entry never comes back at a node that knows of its end.
    const seen = process.replica.view(stored.key);
    // A node that hears of a dead origin late may have missed the end of its records, because the tombstone was collected by then.
    if (seen === undefined || seen.origin.life !== "live") return;
    const saidMs = this.#said.get(`${seen.origin.id}/${seen.seq}`)?.atMs ?? 0;
    for (const { originId, seq, hlc, reach, atMs } of model.ended(stored.key)) {
      // An end may be forgotten once it is old, although a clock that was ahead stamped what it hides later than that.
      const isOld = this.#parts.world.nowMs - atMs > node.options.tombstoneTtlMs;
      // An end that no other node is told of ends only the record of its own origin.
      if (reach === SCOPE.LOCAL && seen.origin.id !== originId) continue;
      if (isOld || seen.hlc >= hlc || saidMs > atMs || process.replica.forgotten.has(originId)) continue;
      checks.holds(
        !this.#isTold(node, process, { originId, seq, reach }),
        "resurrected",
        () => `${node.name} shows ${stored.key} of ${seen.origin.id}:${seen.seq}, which ${originId}:${seq} unregistered`,
      );
    }
    // Nor does it come back at a node that knows of a later end, written by a node that knew of the first one.
    for (const { of, ...end } of this.#knowing.get(stored.key) ?? []) {
      const isOld = this.#parts.world.nowMs - of.atMs > node.options.tombstoneTtlMs;
      // A record that a full disk or a crash took away before it was durable was never said.
      const isSaid = this.#said.get(`${end.originId}/${end.seq}`)?.said.startsWith(`${stored.key} stamped `) === true;
      if (!isSaid || isOld || seen.hlc >= of.hlc || saidMs > of.atMs) continue;
      checks.holds(
        !this.#isTold(node, process, end),
        "overtaken",
        () =>
          `${node.name} shows ${stored.key} of ${seen.origin.id}:${seen.seq}, and has ${end.originId}:${end.seq} of who knew that ${of.originId}:${of.seq} unregistered it`,
      );
    }
  }

  /** Whether a node must have what an origin said. */
  #isTold(node: SimNode, { replica }: SimProcess, { originId, seq, reach }: Said): boolean {
    const known = replica.origins.get(originId);
    const sayer = this.#byId.get(known?.nodeId ?? "");
    return (
      known !== undefined &&
      sayer !== undefined &&
      mayHold(reach, relationOf(node, sayer)) &&
      settledOf(known) >= seq &&
      known.floor < seq &&
      !this.#parts.checks.isLost(originId)
    );
  }

  /** Notes what a node knows when it ends a record of its own. More may arrive while that end is on its way to the disk. */
  #noteStaged(node: SimNode, process: SimProcess): void {
    const { self, staged } = process.replica;
    this.#checkDeparted(node, process);
    // A node that leaves ends its records between two turns. It did not know what comes with the next turn.
    if (process.isClosed) return;
    for (const { key, body, seq, reach } of staged) {
      const id = `${self.id}/${seq}`;
      if (body !== BODY.EXPIRED || reach === SCOPE.LOCAL || node.isRestored || this.#staged.has(id)) continue;
      this.#staged.add(id);
      if (keyParts(key).clusterId !== node.options.clusterId) continue;
      // When an origin puts its key again with a narrower scope, other nodes are told only of the narrowing.
      const narrowed = new Set(process.replica.records(key).flatMap((stored) => (isNarrowing(stored) ? [stored.origin.id] : [])));
      const known = this.#parts.model.ended(key).filter((each) => each.reach !== SCOPE.LOCAL && this.#isTold(node, process, each));
      const ended = known.filter(({ originId }) => !narrowed.has(originId));
      const list = this.#knowing.get(key) ?? [];
      this.#knowing.set(key, [...list, ...ended.map((of) => ({ originId: self.id, seq, reach, of }))]);
    }
  }

  /** A node that stops takes no entry, because no other node would hear of it before the node is gone. */
  #checkDeparted({ name }: SimNode, { replica, departedSeq = Number.POSITIVE_INFINITY }: SimProcess): void {
    const taken = replica.staged.find(({ body, seq }) => body === BODY.ENTRY && seq > departedSeq);
    this.#parts.checks.holds(taken === undefined, "stop", () => `${name} stops and takes ${taken?.key.replaceAll("\0", "|")}`);
  }

  /** A seq is never used twice. */
  #note(node: SimNode, process: SimProcess, stored: CatalogRecord): void {
    const { checks } = this.#parts;
    const isOwn = stored.origin === process.replica.self;
    const id = `${stored.origin.id}/${stored.seq}`;
    const said = `${stored.key} stamped ${stored.hlc}`;
    // A node on a restored disk cannot know what it said before until its peers tell it. Its ends count all the same.
    if (isOwn && node.isRestored) {
      if (!this.#again.has(`${id} ${said}`) && this.#said.get(id)?.said !== said) this.#noteEnd(stored);
      this.#again.add(`${id} ${said}`);
      return;
    }
    const before = this.#said.get(id);
    checks.holds(
      before === undefined || before.said === said || checks.isLost(stored.origin.id),
      "seq",
      () => `${node.name} has ${id} as ${said}, before it was ${before?.said}`,
    );
    if (before !== undefined) return;
    const atMs = this.#parts.world.nowMs;
    this.#said.set(id, { said, atMs });
    checks.say(stored, atMs);
    if (isOwn) this.#noteEnd(stored);
  }

  /** Notes an end: it ends all older records of its key, at all nodes. */
  #noteEnd({ key, origin, seq, hlc, body, scope, reach }: CatalogRecord): void {
    const { model, world } = this.#parts;
    if (body === BODY.ENTRY && reach > scope) model.narrowed(key, hlc);
    if (body === BODY.UNREGISTERED) model.unregistered(key, { originId: origin.id, seq, hlc, reach, atMs: world.nowMs });
  }

  /** A tombstone that is collected because there are too many, and not for its age, may go before all nodes have heard of it (semantics.md, Tombstones). */
  #noteDropped(node: SimNode, { replica }: SimProcess, life: Life): void {
    const { id, floor } = replica.self;
    if (life.floor === floor) return;
    life.floor = floor;
    const { model, nodes, world } = this.#parts;
    for (const [key, { state, originId, hlc }] of model.promised) {
      if (state !== "gone" || originId !== id || replica.own(key) !== undefined) continue;
      const ended = model.ended(key).find((end) => end.originId === id && end.hlc === hlc);
      const isYoung = ended !== undefined && world.nowMs - ended.atMs < node.options.tombstoneTtlMs;
      // The entry comes back from nodes that still hold it. A mark hides entries of forgotten origins.
      const isLost = (older: string) => replica.lost.list.some((lost) => older === `${lost.nodeId}/${lost.generation}`);
      if (isYoung && nodes.some((other) => withOlder(other, key, hlc).some((older) => !isLost(older)))) model.promised.delete(key);
    }
  }

  #checkVector(node: SimNode, process: SimProcess, life: Life): void {
    for (const { id, through } of process.replica.origins.values()) {
      const before = life.throughs.get(id);
      if (before === through) continue;
      this.#parts.checks.holds(
        before === undefined || through > before,
        "vector",
        () => `${node.name}: V of ${id} went from ${before} to ${through}`,
      );
      life.throughs.set(id, through);
    }
    if (life.throughs.size > process.replica.origins.size)
      for (const id of life.throughs.keys()) if (!process.replica.origins.has(id)) life.throughs.delete(id);
  }

  /** A node never shows an empty view as the truth: one that becomes ready while a seed is there knows what one of the others knew when it started. */
  #checkReadiness(node: SimNode, process: SimProcess, life: Life): void {
    const { checks, disturbedMs } = this.#parts;
    if (disturbedMs() >= process.bootMs) return;
    // A seed that stops does not count, because it says goodbye and is not waited for.
    const isThere = ({ node: peer, life: peerLife }: Known) =>
      peer.life === peerLife && peer.isUp && peer.process?.isClosed === false && node.options.seeds.includes(peer.address);
    if (!life.known.some(isThere)) return;
    const isTight = node.maxOriginRecords !== undefined;
    // Origins that the node itself calls partial, where no running node could give the rest.
    const named = new Set(process.notWhole().filter((id) => isTight || this.#byId.get(id.split("/")[0] ?? "")?.isUp !== true));
    const lacks = ({ vector }: Known) =>
      [...vector].filter(
        ([id, seq]) =>
          !process.replica.forgotten.has(id) &&
          !checks.isLost(id) &&
          !named.has(id) &&
          (process.replica.origins.get(id)?.through ?? 0) < seq,
      );
    checks.holds(
      life.known.some((known) => lacks(known).length === 0),
      "readiness",
      () => {
        const all = life.known.map(
          (known) =>
            `${known.node.name} knew ${lacks(known)
              .map(([id, seq]) => `${id}:${seq}`)
              .join(" ")}`,
        );
        return `${node.name} is ready and lacks what its peers knew when it started: ${all.join("; ")}`;
      },
    );
  }
}

/** Origins of which a node has an entry of the key with an earlier stamp, in memory or on its disk. */
function withOlder({ name, process, disk }: SimNode, key: KeyText, hlc: number): readonly string[] {
  const held = process?.replica.records(key).filter((record) => record.body === BODY.ENTRY && record.hlc < hlc) ?? [];
  const isOnDisk = (disk.rows.get(key)?.leaseId ?? "") !== "";
  return [...held.map(({ origin }) => origin.id), ...(isOnDisk ? [`${name}/${disk.generation}`] : [])];
}

/** Whether a node may hold an entry, by the table of semantics.md. */
export function mayHold(scope: Scope, relation: OriginRelation): boolean {
  if (relation === "self") return true;
  if (relation === "cluster") return scope === SCOPE.ZONE || scope === SCOPE.REGION || scope === SCOPE.GLOBAL;
  return relation === "region" && (scope === SCOPE.REGION || scope === SCOPE.GLOBAL);
}

export function relationOf(node: SimNode, origin: SimNode): OriginRelation {
  if (node === origin) return "self";
  if (node.options.clusterId === origin.options.clusterId) return "cluster";
  return node.options.region === origin.options.region ? "region" : "remote";
}

function vectorOf(node: SimNode): ReadonlyMap<string, number> {
  const vector = new Map<string, number>();
  for (const { id, through, life } of node.process?.replica.origins.values() ?? []) if (life === "live") vector.set(id, through);
  return vector;
}

// ---- at rest ----

/** Everything that is not as it should be at rest. */
export function unrest(
  nodes: readonly SimNode[],
  clients: readonly Client[],
  { model, checks }: Pick<InvariantParts, "model" | "checks">,
): readonly string[] {
  const up = nodes.filter(({ process }) => process !== undefined);
  return [
    ...up.filter(({ process }) => process?.isReady !== true).map(({ name }) => `${name} is not ready`),
    ...up.flatMap((node) => wrongMembers(node, up)),
    ...up.flatMap((node) => wrongOrigins(node, up, checks)),
    ...up.flatMap(wrongOwn),
    ...wrongViews(up, { model, checks }),
    ...clients.flatMap((client) => wrongClient(client, up, { model, checks, nodes })),
  ];
}

/** A node takes exactly the running nodes of its region for alive. All others are foreign. */
function wrongMembers(node: SimNode, up: readonly SimNode[]): readonly string[] {
  const alive = new Set(node.process?.aliveMembers());
  const near = up.filter((other) => other !== node && other.options.region === node.options.region);
  const want = near.map((other) => `${other.name}/${other.process?.replica.self.generation}`);
  const missing = want.filter((id) => !alive.has(id)).map((id) => `${node.name} does not know that ${id} is alive`);
  const extra = [...alive]
    .filter((id) => !want.includes(id) && !id.startsWith(`${node.name}/`))
    .map((id) => `${node.name} takes ${id} for alive`);
  return [...missing, ...extra];
}

/** A node holds of every live origin what it may, as the origin has it, and origins have the lives that membership gives them. */
function wrongOrigins(node: SimNode, up: readonly SimNode[], checks: Checks): readonly string[] {
  const { replica } = node.process ?? {};
  if (replica === undefined) return [];
  const wrong: string[] = [];
  const current = new Set(up.map((other) => other.process?.replica.self.id));
  for (const other of up) {
    const self = other.process?.replica.self;
    const relation = relationOf(node, other);
    if (self === undefined || relation === "self" || relation === "remote") continue;
    const held = replica.origins.get(self.id);
    // An origin that never said anything need not be known.
    if (held === undefined && self.through === 0) continue;
    if (held?.through !== self.through) wrong.push(`${node.name} has ${self.id} up to ${held?.through}, it is at ${self.through}`);
    // A seq that a restored disk used again before a peer could tell it stands for two records for ever.
    else if (!checks.isLost(self.id))
      wrong.push(...wrongRecords(node.name, held.log.list(), self.log.list(), relation, Math.max(held.floor, self.floor)));
  }
  for (const { id, life } of replica.origins.values())
    if ((life === "live") !== current.has(id)) wrong.push(`${node.name} takes ${id} for ${life}`);
  return wrong;
}

/** A record that another origin's `unregistered` hides is ended by its own node. Otherwise its lease would be renewed for ever, and its client never told. */
function wrongOwn({ name, process }: SimNode): readonly string[] {
  const { replica } = process ?? {};
  if (replica === undefined) return [];
  return replica.self.log.list().flatMap((own) => {
    if (own.body !== BODY.ENTRY) return [];
    const ender = replica.records(own.key).find((record) => record.origin !== own.origin && endsBeforeHlc(record) > own.hlc);
    return ender === undefined
      ? []
      : [`${name} keeps its ${own.key.replaceAll("\0", "|")} ${own.seq}, which ${ender.origin.id}:${ender.seq} ends`];
  });
}

/** P6: equal vectors, equal records. */
export function wrongRecords(
  name: string,
  held: readonly CatalogRecord[],
  truth: readonly CatalogRecord[],
  relation: OriginRelation,
  floor: number,
): readonly string[] {
  const lines = (records: readonly CatalogRecord[], isTruth: boolean) =>
    records.flatMap((record) => {
      const isEntry = record.body === BODY.ENTRY && (!isTruth || mayHold(record.scope, relation));
      if (isEntry) return [`${record.key} ${record.origin.id}:${record.seq}`];
      // Tombstones at or below the floor may be missing.
      const isHeld = record.seq > floor && (!isTruth || mayHold(record.reach, relation));
      return isHeld ? [`${record.key} ${record.origin.id}:${record.seq} ended`] : [];
    });
  const [have, want] = [new Set(lines(held, false)), new Set(lines(truth, true))];
  // A record that a whole transfer did not list ends under its own number. One more tombstone does no harm.
  const extra = [...have].filter((line) => !want.has(line) && !line.endsWith(" ended"));
  const missing = [...want].filter((line) => !have.has(line) && !line.endsWith(" ended"));
  const show = (line: string) => line.replaceAll("\0", "|");
  return [...missing.map((line) => `${name} lacks ${show(line)}`), ...extra.map((line) => `${name} still has ${show(line)}`)];
}

/** All nodes of a cluster show the same, apart from origins whose seqs a restored disk used again, and what that disk brought back (semantics.md, Durability). */
function wrongViews(up: readonly SimNode[], { model, checks }: Pick<InvariantParts, "model" | "checks">): readonly string[] {
  const wrong: string[] = [];
  const first = new Map<string, { readonly name: string; readonly views: ReadonlyMap<KeyText, string> }>();
  for (const node of up) {
    const views = viewsOf(node);
    const other = first.get(node.options.clusterId);
    if (other === undefined) {
      first.set(node.options.clusterId, { name: node.name, views });
      continue;
    }
    for (const key of new Set([...views.keys(), ...other.views.keys()])) {
      const [here, there] = [views.get(key), other.views.get(key)];
      // A node's own LOCAL entry hides there what the other nodes see.
      if (here === there || here === LOCAL || there === LOCAL) continue;
      const isTwofold = [here, there].some((view) => view !== undefined && checks.isLost(view.slice(0, view.indexOf(":"))));
      if (isTwofold || up.some(({ process }) => isPutBack(process?.replica.view(key), model) || lacksForGood(process, key, up))) continue;
      wrong.push(`${key.replaceAll("\0", "|")}: ${node.name} shows ${here}, ${other.name} ${there}`);
    }
  }
  return wrong;
}

/** Whether a node may lack a record of the key for good: it refused records of an origin that is gone, and no running node holds as much of that origin as it heard of. */
function lacksForGood(process: SimProcess | undefined, key: KeyText, up: readonly SimNode[]): boolean {
  const origins = up.flatMap((other) => other.process?.replica.records(key).map(({ origin }) => origin.id) ?? []);
  return origins.some((id) => {
    const held = process?.replica.origins.get(id);
    if (held?.lacks === undefined || held.life === "live") return false;
    const others = up.map((other) => other.process?.replica.origins.get(id));
    return !others.some((origin) => origin !== undefined && origin.lacks === undefined && origin.through >= held.through);
  });
}

const LOCAL = "local";

function isPutBack(record: CatalogRecord | undefined, model: Model): boolean {
  return record !== undefined && model.isPutBack(record.key, record.origin.nodeId, record.seq);
}

function viewsOf(node: SimNode): ReadonlyMap<KeyText, string> {
  const views = new Map<KeyText, string>();
  const cursor = node.process?.replica.lookup.cursor();
  for (let record = cursor?.next(); record !== undefined; record = cursor?.next())
    views.set(record.key, record.scope === SCOPE.LOCAL ? LOCAL : `${record.origin.id}:${record.seq} ${record.origin.life}`);
  return views;
}

/**
 * When a node never comes back, entries that no node took over stay as long as some node knows how it stopped, and some node of its cluster held
 * them all the while. A node that handed such an entry to one that never comes back no longer has it.
 */
function isRemembered(key: KeyText, { node: left, hlc, isOnDisks = false }: Promised, nodes: readonly SimNode[]): boolean {
  const isAway = ({ process, disk }: SimNode) => process === undefined && (disk.rows.get(key)?.leaseId ?? "") !== "";
  const isGivenOn = nodes.some(isAway);
  return nodes.some(({ index, process }) => {
    if (process === undefined) return false;
    const own = process.replica.own(key);
    // An older entry of the node itself is not the one that it took over, which has at least the promised stamp.
    const hasTaken = own !== undefined && own.hlc >= hlc && (own.body === BODY.ENTRY || !isGivenOn);
    return (index === left && !isGivenOn) || hasTaken || (!isOnDisks && process.fabric.membership.find(`n${left}`)?.keepsEntries === true);
  });
}

/** What clients were promised. */
function wrongClient(
  client: Client,
  up: readonly SimNode[],
  { model, checks, nodes }: Pick<InvariantParts, "model" | "checks" | "nodes">,
): readonly string[] {
  const { wish, key } = client;
  if (wish === undefined || key === undefined || client.isAbandoned || client.isRefused) return [];
  const home = keyParts(key).clusterId;
  if (!up.some(({ options }) => options.clusterId === home)) return [];
  if (!client.isAcknowledged) return [`client ${client.index} is not acknowledged`];
  const promised = model.promised.get(key);
  // When the newest part of a journal is lost, possibly no node remembers the entry.
  if (promised === undefined || checks.isLost(promised.originId)) return [];
  // A node that loses its disk loses what it had told no other node, and no client registers a static entry again or ends it.
  const isKept = up.some((other) => other.process?.replica.self.id === promised.originId);
  if (promised.isHandedOver === true && !isRemembered(key, promised, nodes)) return [];
  if (!isKept && promised.isHandedOver !== true && (wish.ttlMs === 0 || promised.state === "gone")) return [];
  return up.flatMap((node) => {
    if (node.options.clusterId !== home || node.process === undefined) return [];
    const { replica, policies } = node.process;
    const live = replica.records(key).filter(({ body }) => body === BODY.ENTRY);
    if (promised.state === "gone") {
      const isNewest = promised.hlc >= model.newestHlc(key);
      const seen = replica.view(key);
      return isNewest && seen?.origin.life === "live" && !isPutBack(seen, model)
        ? [`${node.name} shows ${key.replaceAll("\0", "|")}, which its client unregistered`]
        : [];
    }
    // The node that took it over is of the same cluster.
    const giver = promised.isHandedOver === true ? node : up.find(({ index }) => index === promised.node);
    if (giver === undefined || !mayHold(promised.scope, relationOf(node, giver))) return [];
    // An end that was stamped by a clock a day ahead hides entries also after the clock is right.
    const isEnded = model.isEnded(key, promised.hlc);
    const isThere = policies.policy.set === undefined ? replica.view(key) !== undefined : live.length > 0;
    if (isThere) return [];
    const what = `${key.replaceAll("\0", "|")} of client ${client.index}`;
    if (!isEnded) return [`${node.name} lacks ${what}`];
    const isHeld = up.some(({ process }) => process?.replica.own(key)?.body === BODY.ENTRY);
    return !promised.isStatic || isHeld || model.told.has(key) ? [] : [`nobody was told that ${what} ended`];
  });
}
