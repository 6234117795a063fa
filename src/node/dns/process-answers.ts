/** Answers what the DNS processes of a resolver ask it, and says what of it their answers depend on. */
import { findJoined, type InstanceName } from "../../catalog/query/instances.ts";
import { healthRank } from "../../discovery/candidates.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { holds } from "../../services/resolving/elsewhere.ts";
import type { ResolverPorts } from "../../services/resolving/ports.ts";
import type {
  FollowedFacts,
  ProcessAnswer,
  ProcessQuestion,
  SentCarriers,
  SentEntry,
  SentName,
} from "../../services/resolving/process-exchange.ts";
import type { ResolverRooms } from "../resolver/resolver-rooms.ts";

/** Of a crowded name so many entries are told, the best first. An answer shows fewer. */
const TOLD = { form: "spread", rank: healthRank, ideal: 0, fit: 0, wanted: 256, at: 0 } as const;

export interface ProcessAnswersParts {
  readonly rooms: Pick<ResolverRooms, "machine" | "replica">;
  readonly ask: ResolverPorts["ask"];
  /** Asks the upstream. Rejects with a WaymarkError. */
  readonly askCarriers: (question: Extract<ProcessQuestion, { readonly kind: "carriers" }>) => Promise<SentCarriers>;
  readonly now: () => Time;
}

export class ProcessAnswers {
  readonly #parts: ProcessAnswersParts;
  #facts: FollowedFacts | undefined;

  constructor(parts: ProcessAnswersParts) {
    this.#parts = parts;
  }

  /** The same object as before, unless something changed. */
  get facts(): FollowedFacts {
    const { machine } = this.#parts.rooms;
    const facts = {
      prefixes: machine.following.prefixes.list.filter((prefix) => machine.isComplete(prefix)),
      doubted: machine.held.lookup.size === 0 ? [] : [...machine.held.lookup.namespaces.from("")],
      isCutOff: machine.upstreams.isCutOff,
      letGoCount: machine.letGoCount,
    };
    if (this.#facts === undefined || !isSame(this.#facts, facts)) this.#facts = facts;
    return this.#facts;
  }

  /** `tell` is called once. */
  answer(question: ProcessQuestion, tell: (answer: ProcessAnswer) => void): void {
    if (question.kind === "carriers") {
      this.#parts.askCarriers(question).then(
        (carriers) => tell({ carriers }),
        (error: unknown) => {
          if (!(error instanceof WaymarkError)) throw error;
          tell({});
        },
      );
      return;
    }
    const { name, isFurther, isReminder } = question;
    const told = (ageMs: number) => tell(isReminder ? {} : { name: this.#told(name, ageMs) });
    try {
      const answer = this.#parts.ask(name, { isFurther, isCounted: false }, (error) => (error === undefined ? told(0) : tell({})));
      if (answer !== undefined) told(answer.ageMs);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      tell({});
    }
  }

  #told(name: InstanceName, ageMs: number): SentName {
    const { machine, replica } = this.#parts.rooms;
    const { found } = findJoined<SentEntry>(machine.lookupsOf(name.namespace), name, {
      sampling: TOLD,
      read: ({ at, sizeBytes, origin }) => ({
        bytes: Uint8Array.from(replica.slab.view(at, sizeBytes)),
        isOrphaned: origin.life === "orphaned",
        nodeId: origin.nodeId,
      }),
    });
    return { entries: found, ageMs, leftMs: holds(machine, name) ? 0 : this.#leftMs(name) };
  }

  #leftMs(name: InstanceName): number {
    const { rooms, now } = this.#parts;
    const { machine } = rooms;
    return machine.isComplete(name.namespace) ? Number.POSITIVE_INFINITY : (machine.fetchedLeftMs(name, now()) ?? 0);
  }
}

function isSame(a: FollowedFacts, b: FollowedFacts): boolean {
  const isSameList = (one: readonly string[], other: readonly string[]) =>
    one.length === other.length && one.every((text, i) => text === other[i]);
  return (
    a.isCutOff === b.isCutOff && a.letGoCount === b.letGoCount && isSameList(a.prefixes, b.prefixes) && isSameList(a.doubted, b.doubted)
  );
}
