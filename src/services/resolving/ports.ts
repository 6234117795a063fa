/** The interfaces that the services of a resolver use: the resolver machine, and calls to upstreams. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { QueriedName } from "../../catalog/query/instances.ts";
import { isKnownAge } from "../../lib/duration.ts";
import type { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { AnswerQuality, LookupOptions } from "../../resolver/io-types.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { type AnswerAge, SOURCE } from "../discovery/answer-age.ts";

/** An answer, and the upstream that sent it. */
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
   * Looks up a name for a caller that may see its namespace. Returns undefined if the name must be fetched. In that case `told` is called once, with
   * the error, or in the turn in which the answer arrives. Throws `not_ready`.
   */
  ask(name: QueriedName, asked: LookupOptions, told: (error: WaymarkError | undefined) => void): AnswerQuality | undefined;
  /** Proxies a call to the upstream. Rejects with the upstream's error, or with `not_ready` if there is no upstream. */
  call<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>, request: MessageInitShape<I>): Promise<MessageShape<O>>;
  /**
   * Like `call`, but with an encoded answer and optionally an encoded request. The call ends after `withinMs` if that is shorter than the usual
   * timeout.
   */
  callBytes<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I> | Uint8Array,
    withinMs?: number,
  ): Promise<UpstreamAnswer>;
  /** Reports that an upstream sent data that no Waymark server can have sent. */
  readonly garbled: (upstream: string, fault: string) => void;
  /** Called when the watched namespaces must change, or when a new policy version becomes known. */
  adjust(): void;
  /** Resolves with true as soon as `isSo` returns true, or with false after `withinMs`. Rejects with `draining` when this process stops. */
  until(isSo: () => boolean, withinMs: number): Promise<boolean>;
}

/** Converts the age and source of an answer from the machine to the form that responses use. If the age is unknown, it is counted from 1970. */
export function ageOf({ source, isStale, ageMs, unreachable }: AnswerQuality, { wallMs }: Time): AnswerAge {
  return {
    ageMs: Number.isFinite(ageMs) ? Math.round(ageMs) : wallMs,
    isStale: isStale || !isKnownAge(ageMs),
    source: SOURCES[source],
    unreachable,
  };
}

const SOURCES = { followed: SOURCE.FOLLOWED, fetched: SOURCE.FETCHED, disk: SOURCE.DISK } as const;
