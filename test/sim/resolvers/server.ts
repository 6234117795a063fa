/** What resolvers and clients read, at a simulated node or resolver, by the handlers that all listeners use; and what the world knows of each message. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { CatalogQueryRequestSchema, CatalogWatchRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { WholeName } from "../../../src/catalog/query/instances.ts";
import type { PortableCursor } from "../../../src/catalog/watch/cursor.ts";
import type { Time } from "../../../src/lib/machine.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import type { PolicyEngine } from "../../../src/policy/versions/engine.ts";
import type { VersionPlace } from "../../../src/policy/versions/version.ts";
import { readFetchedPage, readPolicyMessage, readWatchMessage } from "../../../src/resolver/codec.ts";
import type { UpstreamFacts } from "../../../src/resolver/upstreams.ts";
import type { AnswerAge } from "../../../src/services/discovery/answer-age.ts";
import { type ReadParts, readHandlers } from "../../../src/services/discovery/read-handlers.ts";
import { PolicyWatch } from "../../../src/services/policy/policy-watch.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import type { World } from "../world.ts";
import type { History, Shown } from "./history.ts";
import type { Host, Source } from "./wires.ts";

/** A message of a server, and what the world knows of it. */
export interface Sent {
  readonly bytes: Uint8Array;
  /** When it was sent, in true time. */
  readonly sentMs: number;
  /** Names the policy under which it was made; empty where it says none. */
  readonly epoch: string;
  /** What its server showed, in a message after which a resolver holds that. */
  readonly shown: Shown | undefined;
  /** What its server held itself, in such a message. */
  readonly held: Shown | undefined;
}

/** A process that answers. */
export interface Serving {
  readonly parts: ReadParts;
  readonly policies: PolicyEngine;
  readonly isOver: boolean;
  time(): Time;
  encodedAt(place: VersionPlace): Uint8Array | undefined;
  /** What it shows now, to be called at the place of a cursor. */
  shownAt(cursor: PortableCursor): Shown | undefined;
  /** All that it holds. Absent at a node, which holds what it shows. */
  held?(): Shown;
  /** How good its answer about a namespace is; undefined at a node. Throws where it does not know the namespace. */
  ageOf(namespace: string): AnswerAge | undefined;
  /** Somebody watches below these prefixes. Returns what is to be called when the watch ends. */
  watched(prefixes: readonly string[]): () => void;
  /** Whether a watch below these prefixes may be told that it has everything. */
  isWhole(prefixes: readonly string[]): boolean;
}

export interface Watched {
  readonly prefixes: readonly string[];
  readonly cursor: string;
  /** Absent for a client, which has a namespace or a prefix of its own. */
  readonly via?: readonly string[];
  readonly caller?: Caller;
  readonly withDigest?: boolean;
}

export interface ServerParts {
  readonly world: World;
  readonly history: History;
  readonly host: Host;
  /** The process that runs now. Throws what it refuses everything with. */
  readonly serving: () => Serving;
  readonly facts: () => UpstreamFacts;
}

const RESOLVER = anonymousCaller("c1", "127.0.0.1", ["mesh.resolve"]);
/** Entries of a page: fewer than some names have. */
const PAGE = 3;
const BOOKMARK_MS = 1000;

export class Server {
  readonly host: Host;
  readonly #parts: ServerParts;

  constructor(parts: ServerParts) {
    this.host = parts.host;
    this.#parts = parts;
  }

  /** The answer to a probe. Throws what it is refused with. */
  facts(): UpstreamFacts {
    return this.#parts.facts();
  }

  /** A watch of a resolver, or of a client with one prefix. */
  watch({ prefixes, cursor, via, caller = RESOLVER, withDigest = false }: Watched): Source<Sent> {
    const serving = this.#parts.serving();
    const handler = readHandlers({ ...serving.parts, isReady: () => serving.isWhole(prefixes) }).handlers.catalogWatch;
    if (handler?.kind !== "server_streaming") throw new Error("no watch");
    if (via !== undefined) serving.parts.checkVia?.(via);
    const [namespacePrefix = ""] = prefixes;
    const asked = via === undefined ? { namespacePrefix } : { forResolver: true, namespacePrefixes: [...prefixes], via: [...via] };
    const request = create(CatalogWatchRequestSchema, { ...asked, cursor, withDigest, bookmarkInterval: durationFromMs(BOOKMARK_MS) });
    const open = () => handler.open(request as never, { caller, time: serving.time(), requestId: "" });
    const seen = (bytes: Uint8Array) => {
      const { policyEpoch, place } = readWatchMessage(bytes);
      if (place === undefined || via === undefined) return { epoch: policyEpoch, shown: undefined, held: undefined };
      const shown = serving.shownAt(place.cursor);
      return { epoch: policyEpoch, shown, held: serving.held?.() ?? shown };
    };
    const unwatch = serving.watched(prefixes);
    // A resolver opens the stream when it follows what is asked for, and has its snapshot.
    if (serving.parts.resumes === undefined) return this.#source(serving, open(), seen, unwatch);
    let source: Source<Sent> | undefined;
    return {
      pull: () => {
        if (source === undefined && !serving.isOver && serving.isWhole(prefixes)) source = this.#source(serving, open(), seen, unwatch);
        return source?.pull();
      },
      close: () => (source === undefined ? unwatch() : source.close()),
    };
  }

  policy(known: readonly VersionPlace[]): Source<Sent> {
    const serving = this.#parts.serving();
    const { policies, parts } = serving;
    const source = new PolicyWatch({
      history: () => policies.history(),
      epoch: () => policies.policy.epoch,
      encodedNow: (place) => serving.encodedAt(place),
      // What is asked for in virtual time is answered at once, or lost to another version.
      encoded: () => Promise.resolve(undefined),
      known,
      servedBy: parts.identity.nodeId,
      via: parts.via?.() ?? [],
      onChange: () => () => {},
    });
    const seen = (bytes: Uint8Array) => ({ epoch: readPolicyMessage(bytes).state?.policyEpoch ?? "", shown: undefined, held: undefined });
    return this.#source(serving, source, seen, () => {});
  }

  /** A page of the answer to a name. */
  fetch({ namespace, name }: WholeName, pageToken: string, via: readonly string[]): Sent {
    const serving = this.#parts.serving();
    const handler = readHandlers(serving.parts).handlers.catalogQuery;
    if (handler?.kind !== "unary") throw new Error("no query");
    const asked = { forResolver: true, via: [...via], namespace, names: [name], pageToken, limit: PAGE };
    const time = serving.time();
    const context = { caller: RESOLVER, time, requestId: "", age: serving.ageOf(namespace) };
    const bytes = handler.handle(create(CatalogQueryRequestSchema, asked) as never, context);
    if (!(bytes instanceof Uint8Array)) throw new Error("an answer is made at once");
    return { ...this.#sent(serving, bytes), epoch: readFetchedPage(bytes).policyEpoch, shown: undefined, held: undefined };
  }

  #sent(serving: Serving, bytes: Uint8Array): Pick<Sent, "bytes" | "sentMs"> {
    this.#parts.history.notePolicy(serving.policies.policy);
    return { bytes: Uint8Array.from(bytes), sentMs: this.#parts.world.nowMs };
  }

  #source(
    serving: Serving,
    source: StreamSource,
    seen: (bytes: Uint8Array) => Pick<Sent, "epoch" | "held" | "shown">,
    onClose: () => void,
  ): Source<Sent> {
    let isOver = false;
    source.attach(
      () => {},
      () => {},
    );
    return {
      pull: () => {
        if (isOver || serving.isOver) return undefined;
        const bytes = source.pull(serving.time());
        return bytes && { ...this.#sent(serving, bytes), ...seen(bytes) };
      },
      close: () => {
        if (isOver) return;
        isOver = true;
        source.close();
        onClose();
      },
    };
  }
}
