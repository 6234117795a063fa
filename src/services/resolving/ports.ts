/** What the services of a resolver need of the process around its machine. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { QueriedName } from "../../catalog/query/instances.ts";
import { isKnownAge } from "../../lib/duration.ts";
import type { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { AnswerQuality, LookupOptions } from "../../resolver/io-types.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { type AnswerAge, SOURCE } from "../discovery/answer-age.ts";

/** An answer, and the upstream that gave it. */
export interface UpstreamAnswer {
  readonly bytes: Uint8Array;
  readonly upstream: string;
}

export interface ResolverPorts {
  readonly machine: Pick<
    ResolverMachine,
    | "counts"
    | "fetchedAnswer"
    | "followedAnswer"
    | "following"
    | "hasFetched"
    | "held"
    | "hiddenAnswer"
    | "isComplete"
    | "lastAnswer"
    | "policy"
    | "via"
  >;
  /**
   * Asks for a name, for a caller that may see its namespace. Undefined: `told` is called once, later, in the turn in which the answer arrives, or with the
   * error. Throws `not_ready`.
   */
  ask(name: QueriedName, asked: LookupOptions, told: (error: WaymarkError | undefined) => void): AnswerQuality | undefined;
  /** Passes a call on to the upstream. Rejects with its refusal, or with `not_ready` if there is none. */
  call<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: MessageInitShape<I>): Promise<MessageShape<O>>;
  /** As `call`, with the bytes of the answer as they came, and of the request where it is given as bytes. It ends after `withinMs`, if that is less than such a call may take. */
  callBytes<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I> | Uint8Array,
    withinMs?: number,
  ): Promise<UpstreamAnswer>;
  /** An upstream sent what no server of ours can have sent. */
  readonly garbled: (upstream: string, fault: string) => void;
  /** What is to be followed has changed, or a policy was heard of. */
  adjust(): void;
  /** Resolves with true as soon as it is so, and with false after the time. Rejects with `draining` when this process stops. */
  until(isSo: () => boolean, withinMs: number): Promise<boolean>;
}

/** The words of an answer of the machine, as responses have them. An unknown age is counted from 1970. */
export function ageOf({ source, isStale, ageMs, unreachable }: AnswerQuality, { wallMs }: Time): AnswerAge {
  return {
    ageMs: Number.isFinite(ageMs) ? Math.round(ageMs) : wallMs,
    isStale: isStale || !isKnownAge(ageMs),
    source: SOURCES[source],
    unreachable,
  };
}

const SOURCES = { followed: SOURCE.FOLLOWED, fetched: SOURCE.FETCHED, disk: SOURCE.DISK } as const;
