/**
 * SummaryQuery and SummaryWatch on a resolver: the same handlers as on a node, with the summaries that the resolver watches
 * (docs/design/summaries.md, Resolvers).
 */
import type { SummaryQueryRequest, SummaryWatchRequest } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { parseCursor } from "../../catalog/watch/cursor.ts";
import type { SummaryReads } from "../../discovery/summaries/summary-reads.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { viewerOf } from "../../policy/identity/caller.ts";
import type { FollowedSummaries } from "../../resolver/summaries/followed-summaries.ts";
import { DeferredStream } from "../deferred-stream.ts";
import type { AnswerAge } from "../discovery/answer-age.ts";
import { type SummaryMethod, type SummaryServiceParts, summaryHandlers } from "../discovery/summaries.ts";
import { SUMMARY_ROUTE } from "../discovery/summary-route.ts";
import type { CallContext, HttpRoute, MethodHandler, RouteAnswer, StreamSource } from "../service.ts";
import type { PolicyGate } from "./policy-gate.ts";
import { ageOf, type ResolverPorts } from "./ports.ts";
import { type ResolvingParts, streaming, unary } from "./reads.ts";

/** The summaries that a resolver watches, and the operations that read them. */
export interface LocalSummaries {
  readonly followed: FollowedSummaries;
  readonly reads: SummaryReads;
}

interface SummaryServices {
  readonly handlers: Readonly<Record<SummaryMethod, MethodHandler>>;
  readonly routes: readonly HttpRoute[];
}

const RETRY_MS = 500;

/**
 * Returns the handlers and routes. Without `here`, the resolver does not watch any summaries, and all calls fail with an error that names the
 * setting.
 */
export function resolvingSummaries(
  parts: ResolvingParts,
  here: LocalSummaries | undefined,
  gate: PolicyGate,
  checkVia: SummaryServiceParts["checkVia"],
): SummaryServices {
  if (here === undefined) return NONE_FOLLOWED;
  const methods = new ResolvingSummaries(parts, here, gate, checkVia);
  return methods.answering();
}

class ResolvingSummaries {
  readonly #parts: ResolvingParts;
  readonly #here: LocalSummaries;
  readonly #gate: PolicyGate;
  readonly #node: ReturnType<typeof summaryHandlers>;

  constructor(parts: ResolvingParts, here: LocalSummaries, gate: PolicyGate, checkVia: SummaryServiceParts["checkVia"]) {
    const { machine }: Pick<ResolverPorts, "machine"> = parts.ports;
    this.#parts = parts;
    this.#here = here;
    this.#gate = gate;
    const own = { via: () => machine.via, checkVia, followedAge: (time: Time) => this.#age(time) };
    const isReady = () => here.followed.isComplete;
    this.#node = summaryHandlers({ ...parts, ...own, summaries: here.reads, isReady });
    here.reads.follow(parts.fanout);
  }

  answering(): SummaryServices {
    const handle = unary<SummaryQueryRequest>(this.#node.handlers.summaryQuery);
    const open = streaming<SummaryWatchRequest>(this.#node.handlers.summaryWatch);
    return {
      handlers: {
        summaryQuery: {
          kind: "unary",
          handle: (request: SummaryQueryRequest, context) =>
            this.#gate.whenOpen<Awaited<ReturnType<typeof handle>>>(request.namespace, () => {
              this.#check(request, context);
              return handle(request, this.#aged(context));
            }),
        },
        summaryWatch: {
          kind: "server_streaming",
          open: (request: SummaryWatchRequest, context) => {
            const begin = () => {
              this.#check(request, context);
              return open(withoutPlace(request), context);
            };
            const opened = this.#gate.whenOpen<StreamSource>("", begin);
            return opened instanceof Promise ? new DeferredStream(opened) : opened;
          },
        },
      },
      routes: this.#node.routes.map((route) => ({
        ...route,
        answer: (asked, context) => {
          const { namespace = "", namespace_prefix: namespacePrefix = "" } = asked;
          return this.#gate.whenOpen<RouteAnswer>(namespace, () => {
            this.#check({ namespace, namespacePrefix }, context);
            return route.answer(asked, this.#aged(context));
          });
        },
      })),
    };
  }

  #age(time: Time): AnswerAge {
    return ageOf(this.#here.followed.answer(time), time);
  }

  #aged(context: CallContext): CallContext {
    const time = this.#parts.now();
    return { ...context, time, age: this.#age(time) };
  }

  /**
   * Throws if the resolver lacks the requested summaries, so that callers do not treat them as absent. Does not throw if the namespace is hidden from
   * the caller, because the error would reveal that it exists.
   */
  #check(
    asked: Pick<SummaryQueryRequest, "namespace" | "namespacePrefix"> & Partial<Pick<SummaryQueryRequest, "viewer">>,
    context: CallContext,
  ): void {
    const { followed, reads } = this.#here;
    const base = asked.namespace === "" ? asked.namespacePrefix : asked.namespace;
    const caller = viewerOf(context.caller, asked.viewer, this.#parts.allowsViewerOverride);
    if (asked.namespace !== "" && !reads.reads.verdict(caller, asked.namespace).allowed) return;
    if (!followed.follows(base))
      throw new WaymarkError(
        "summaries_disabled",
        `this resolver does not watch summaries of ${base}: add the namespace to summary.resolver_namespaces, or send the call to a node`,
      );
    if (followed.isComplete) return;
    const why = followed.fault ?? "it has not received them from its upstreams yet, or the upstreams have none";
    throw new WaymarkError("not_ready", `this resolver has no summaries: ${why}`, { retryMs: RETRY_MS });
  }
}

/** Removes a portable cursor, so that the watch starts with a snapshot. A resolver has only views, and portable cursors do not apply to views. */
function withoutPlace(request: SummaryWatchRequest): SummaryWatchRequest {
  return request.cursor !== "" && parseCursor(request.cursor).kind === "portable" ? { ...request, cursor: "" } : request;
}

function notFollowed(): never {
  throw new WaymarkError(
    "summaries_disabled",
    "this resolver does not watch summaries: set summary.resolver_scopes, or send the call to a node",
  );
}

const NONE_FOLLOWED: SummaryServices = {
  handlers: {
    summaryQuery: { kind: "unary", handle: notFollowed },
    summaryWatch: { kind: "server_streaming", open: notFollowed },
  },
  routes: [{ ...SUMMARY_ROUTE, answer: notFollowed }],
};
