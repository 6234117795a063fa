/**
 * The messages between the main thread of a node and its workers. The messages are plain values, which can be cloned to another thread or process.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import type { ChangeMessage } from "../../catalog/copy/change-codec.ts";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import type { Settings } from "../../config/settings.ts";
import type { SentError } from "../../lib/errors.ts";
import type { MetricsValues } from "../../lib/metrics/sum.ts";
import type { AuditEvent } from "../../policy/audit/record.ts";
import type { ManagedCallers } from "../../policy/identity/tenants.ts";
import type { WatchNews, WatchVerdict } from "../../policy/limits/host-watches.ts";
import type { SharedLimits } from "../../policy/limits/shared-limits.ts";
import type { HttpSources, ReadinessReport } from "../../server/http-routes.ts";
import type { CallAnswers, CallRequests } from "../../services/forwarding/messages.ts";
import type { SentRoute } from "../../services/service.ts";
import type { ListenEndpoints, SharedPorts } from "../core/endpoints.ts";

/** The callers that a worker serves: a thread serves all of them, and a process serves only DNS. */
export type WorkerRole = "callers" | "dns";

/** How the rate limits of the node are divided among workers. */
export type WorkerLimits =
  /** Threads share memory. A restarted thread uses the same memory, including its current content. */
  | { readonly kind: "shared"; readonly limits: SharedLimits }
  /** Processes do not share memory. Instead, each process gets one of `of` equal parts. */
  | { readonly kind: "part"; readonly of: number };

/** Start options of a worker. */
export interface WorkerStart {
  readonly role: WorkerRole;
  /** Number of the worker, starting from 1. */
  readonly number: number;
  readonly settings: Settings;
  readonly version: string;
  readonly nodeId: string;
  readonly generation: number;
  readonly boot: string;
  /** How long the node has been running, in ms. A duration is sent because the monotonic clocks of two threads differ. */
  readonly uptimeMs: number;
  readonly limits: WorkerLimits;
  /** The published zone serials. Undefined while DNS is off, and in a process, which receives the serials in `ReplicatedNodeState`. */
  readonly zoneSerials: SharedArrayBuffer | undefined;
  /** Secret for DNS cookies that all workers share, unless the settings name a file. */
  readonly cookieSecret: Uint8Array;
  /** The routes of the main thread, by service name. A read worker forwards the routes that it does not serve itself. */
  readonly routes: Readonly<Record<string, readonly SentRoute[]>>;
  /** Whether log lines are formatted for people or for programs. */
  readonly logFormat: "json" | "text";
}

/** State that reads depend on in addition to the catalog. */
export interface ReplicatedNodeState {
  readonly isReady: boolean;
  /** Whether DNS queries may be answered: the node was ready once and has no fault now. */
  readonly isSound: boolean;
  readonly isWhole: boolean;
  readonly isServing: boolean;
  /** Whether any thread or process of the node answers DNS. */
  readonly hasDns: boolean;
  readonly hasPeers: boolean;
  readonly ageMs: number;
  /** Whether other nodes write to this catalog. If so, its age grows while no messages arrive. */
  readonly isShared: boolean;
  /** As in `PeerDirectory`. */
  readonly unreachable: UnreachableNodes | undefined;
  /** Why this node refuses renewals and watches: another process uses its id. Undefined if the node accepts them. */
  readonly startRefusal: SentError | undefined;
  readonly endedStaticCount: number;
  /** The zone serials, for a process. Threads use shared memory instead. */
  readonly zoneSerials: Uint32Array<ArrayBuffer> | undefined;
}

/** State of the node for operators. This state is sent to each worker a few times per second, and on request. */
export interface NodeReport {
  readonly readiness: ReadinessReport;
  readonly persistence: JsonValue;
}

export type WorkerOrder =
  /** Open the listeners. */
  | { readonly kind: "listen"; readonly shared: SharedPorts }
  /** Addresses of the node that are reported to clients, as a map from listener name to `host:port`. */
  | { readonly kind: "name"; readonly listeners: Readonly<Record<string, string>> }
  | { readonly kind: "reload" }
  /** The callers' tokens and the revocations that administrators have made. */
  | { readonly kind: "managed"; readonly managed: ManagedCallers }
  | { readonly kind: "drain"; readonly withinMs: number }
  | { readonly kind: "stop"; readonly withinMs: number }
  /** Requests the values of all metrics. */
  | { readonly kind: "measure"; readonly number: number };

/** The answer to a question from the worker. */
export interface WorkerReply {
  readonly id: number;
  readonly scrape?: Awaited<ReturnType<HttpSources["scrape"]>> | undefined;
}

/** A message to a worker. The catalog changes are applied first, because all other fields may refer to them. */
export interface ToWorker {
  /** 1, 2, 3, … */
  readonly number: number;
  /** Number of the worker's last message that the main thread received. */
  readonly received: number;
  readonly changes: ChangeMessage;
  /** Whether the node is waiting for the confirmation of this message. */
  readonly isAwaited: boolean;
  readonly facts: ReplicatedNodeState;
  readonly report: NodeReport | undefined;
  /** Answers to calls that the worker forwarded, in order. */
  readonly answers: readonly CallAnswers[];
  readonly verdicts: readonly WatchVerdict[];
  readonly replies: readonly WorkerReply[];
  readonly orders: readonly WorkerOrder[];
}

/** A question from a worker to its node, other than a call. */
export type WorkerQuestion =
  /** Answered when the copy contains everything that the node has now. */
  | { readonly kind: "caughtUp"; readonly id: number }
  /** Answered together with a report. */
  | { readonly kind: "report"; readonly id: number }
  | { readonly kind: "scrape"; readonly id: number; readonly accept: string };

/** A notification that a worker has completed an action. */
export type WorkerNotice =
  | { readonly kind: "whole" }
  | { readonly kind: "listening"; readonly endpoints: ListenEndpoints }
  /** The listeners could not be opened. The message is for the operator. */
  | { readonly kind: "notListening"; readonly message: string }
  | { readonly kind: "drained" }
  | { readonly kind: "stopped" }
  /** `utilization`: share of the time since the last measurement during which the event loop was busy. */
  | { readonly kind: "measured"; readonly number: number; readonly values: MetricsValues; readonly utilization: number };

export interface FromWorker {
  readonly number: number;
  readonly received: number;
  readonly calls: CallRequests | undefined;
  readonly watches: readonly WatchNews[];
  readonly events: readonly AuditEvent[];
  readonly questions: readonly WorkerQuestion[];
  readonly done: readonly WorkerNotice[];
  readonly connectionCount: number;
  /** The last policy changes that the worker shows and that its watches have received. */
  readonly policy: { readonly shown: number; readonly delivered: number };
}
