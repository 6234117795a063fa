/** Copies of the replicas of a mesh, each fed by its node as a read worker is, and read by streams in the place of the node. */

import assert from "node:assert/strict";
import { BODY } from "../../src/catalog/record/record.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import { NAME_INDEX_BOUNDS } from "../../src/catalog/watch/name-index.ts";
import { Fanout } from "../../src/discovery/fanout.ts";
import { LoadReports } from "../../src/discovery/registrar/load-reports.ts";
import type { Time } from "../../src/lib/machine.ts";
import { CopyFeed, type FeedRooms } from "../../src/node/core/copies/copy-feed.ts";
import { type CopyRooms, openCopyRooms } from "../../src/node/core/copies/copy-rooms.ts";
import { NO_POLICY } from "../../src/policy/set/verdict.ts";
import { coreProcess } from "./core-process.ts";
import type { FabricComponent } from "./mesh.ts";
import type { Stream } from "./stream.ts";
import type { Views } from "./watch-history.ts";

let copyCount = 0;

export interface CopyOptions {
  readonly pastTouches?: number | undefined;
  readonly clusterId?: string;
  readonly region?: string;
  readonly boot?: string;
  /** Called when the copy is to be given what is new. */
  readonly onNews?: () => void;
  /** Called when one of its watchers must be woken. */
  readonly onAgain?: () => void;
}

/** One copy with its rooms, and the feed that makes it. */
export class Copy {
  readonly name = `copy ${++copyCount}`;
  readonly rooms: CopyRooms;
  /** What is followed. A node that starts again has another one. */
  readonly of: Replica;
  readonly feed: CopyFeed;

  constructor(
    of: FeedRooms,
    { pastTouches, clusterId = "c1", region = "r1", boot = "b", onNews = () => {}, onAgain = () => {} }: CopyOptions = {},
  ) {
    const { nodeId, generation } = of.replica.self;
    const catalog = { tombstoneTtlMs: 1, minTombstones: 0, ...(pastTouches !== undefined && { pastTouches }) };
    this.of = of.replica;
    const process = coreProcess({ now: () => ({ monoMs: 0, wallMs: 0 }), catalog, clusterId, region, boot, onAgain });
    const bounds = { nameBounds: { ...NAME_INDEX_BOUNDS, offeredAtATime: 1 }, maxTraits: 16 };
    this.rooms = openCopyRooms({ ...process, ...bounds, nodeId, generation, startedMonoMs: 0 });
    this.feed = new CopyFeed(of, onNews);
  }

  get replica(): Replica {
    return this.rooms.replica;
  }

  get isWhole(): boolean {
    return this.rooms.copy.isWhole;
  }

  hear(maxCount: number): void {
    const said = this.feed.take(maxCount);
    // As a message to another thread. Messages that say nothing of the catalog do not reach the rooms.
    if (said.numbers.length > 0) this.rooms.copy.apply(structuredClone(said));
  }

  close(): void {
    this.feed.close();
  }
}

/** The rooms around a replica without callers and without policy. */
export function bareRooms(replica: Replica): FeedRooms {
  const loads = new LoadReports(0);
  const switches = { followers: new Set<never>(), isBusy: false, onFollowed: () => {} };
  return { replica, policies: { policy: NO_POLICY }, registrar: { loads }, fanout: new Fanout(), switches };
}

/** All that readers use of a replica, as text. */
export function linesOf(replica: Replica): readonly string[] {
  const lines = [
    `${replica.revision} ${replica.collectedRevision} ${replica.tombstoneCount} ${[...replica.forgotten.keys()].toSorted().join(" ")}`,
  ];
  // A copy may have heard of origins in another order.
  const origins = [...replica.origins.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  for (const { id, life, markedSeq, through, floor, unsettled, lacks, clusterId, region, log } of origins)
    lines.push(
      [id, life, markedSeq, through, floor, unsettled?.from, unsettled?.until, lacks?.count, clusterId, region, log.size].join(" "),
    );
  replica.changesSince(0, (stored, revision) => {
    const { key, origin, seq, hlc, body, bornRevision, filterRevision, shownHealth, sizeBytes, traits, reach } = stored;
    const isSeen = replica.view(key) === stored;
    const shown = isSeen ? `${shownHealth} ${traits.tags.join(",")} ${traits.version}` : "";
    const bytes = body === BODY.ENTRY ? Buffer.from(replica.slab.view(stored.at, sizeBytes)).toString("base64url") : "";
    lines.push([revision, key, origin.id, seq, hlc, body, reach, bornRevision, filterRevision, isSeen, shown, bytes].join(" "));
    return true;
  });
  lines.push(`${replica.lookup.size} ${replica.lookup.namespaces.list().join(" ")} ${[...replica.localNamespaces].toSorted().join(" ")}`);
  return lines;
}

/** The streams of each node read at the node or at one of two copies of it. Copies end, and others begin, as `pick` says. */
export class Copies implements Views {
  readonly #pastTouches: number | undefined;
  readonly #copies = new Map<FabricComponent, (Copy | undefined)[]>();
  readonly #owners = new Map<FabricComponent, { readonly owner: FabricComponent; readonly slot: number }>();
  readonly #views = new Map<FabricComponent, readonly FabricComponent[]>();
  wholeCount = 0;

  constructor(pastTouches: number | undefined) {
    this.#pastTouches = pastTouches;
  }

  at(node: FabricComponent, pick: number): FabricComponent {
    const slot = pick % 3;
    if (slot === 2) return node;
    this.#hear(node, slot, Number.POSITIVE_INFINITY);
    return this.#viewsOf(node)[slot] ?? node;
  }

  ownerOf(view: FabricComponent): FabricComponent {
    return this.#owners.get(view)?.owner ?? view;
  }

  follow(streams: readonly Stream[], pick: number, time: Time): void {
    for (const [node, copies] of this.#copies) {
      copies.forEach((copy, slot) => {
        const isEnded = copy !== undefined && (copy.of !== node.replica || (pick + slot) % 11 === 0);
        if (isEnded) {
          copy.close();
          copies[slot] = undefined;
        }
        // One of the two is made in small slices, while its node goes on.
        this.#hear(node, slot, slot === 0 ? Number.POSITIVE_INFINITY : 1 + (pick % 4));
        if (copies[slot]?.isWhole === false || isEnded) this.#leave(streams, { node, slot }, time);
      });
    }
  }

  /** Streams do not read at a copy that is not whole. */
  #leave(streams: readonly Stream[], { node, slot }: { readonly node: FabricComponent; readonly slot: number }, time: Time): void {
    const view = this.#viewsOf(node)[slot];
    for (const stream of streams) if (stream.node === view) stream.reconnect(node, time, "best");
  }

  #hear(node: FabricComponent, slot: number, maxCount: number): void {
    const copies = this.#copiesOf(node);
    if (copies[slot]?.of !== node.replica) copies[slot] = undefined;
    const copy = (copies[slot] ??= new Copy(bareRooms(node.replica), { pastTouches: this.#pastTouches }));
    copy.hear(maxCount);
    if (!copy.isWhole) return;
    this.wholeCount += 1;
    assert.deepEqual(linesOf(copy.replica), linesOf(node.replica), "a copy is as what it follows");
  }

  #copiesOf(node: FabricComponent): (Copy | undefined)[] {
    const copies = this.#copies.get(node) ?? [undefined, undefined];
    this.#copies.set(node, copies);
    return copies;
  }

  #viewsOf(node: FabricComponent): readonly FabricComponent[] {
    const known = this.#views.get(node);
    if (known !== undefined) return known;
    const views = [0, 1].map((slot) => {
      const view = Object.create(node, {
        viewName: { get: () => this.#copiesOf(node)[slot]?.name },
        replica: { get: () => this.#copiesOf(node)[slot]?.replica },
        facts: { get: () => node.facts },
        model: { get: () => node.model },
      }) as FabricComponent;
      this.#owners.set(view, { owner: node, slot });
      return view;
    });
    this.#views.set(node, views);
    return views;
  }
}
