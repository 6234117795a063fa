/** What the main thread of a node and its workers say to each other: plain values, which can be cloned to another thread or process. */
import type { JsonValue } from "@bufbuild/protobuf";
import type { ChangeMessage } from "../../catalog/copy/change-codec.ts";
import type { UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import type { EffectiveSettings } from "../../config/load.ts";
import type { Settings } from "../../config/settings.ts";
import type { SentError } from "../../lib/errors.ts";
import type { MetricsValues } from "../../lib/metrics/sum.ts";
import type { AuditEvent } from "../../policy/audit/record.ts";
import type { WatchNews, WatchVerdict } from "../../policy/limits/host-watches.ts";
import type { SharedLimits } from "../../policy/limits/shared-limits.ts";
import type { HttpSources, ReadinessReport } from "../../server/http-routes.ts";
import type { CallAnswers, CallRequests } from "../../services/forwarding/messages.ts";
import type { RouteRow } from "../../services/service.ts";
import type { ListenEndpoints, SharedPorts } from "../core/endpoints.ts";

/** What a worker serves: all callers, as a thread, or those of DNS alone, as a process. */
export type WorkerRole = "callers" | "dns";

/** How the rate limits of the node are shared out. */
export type WorkerLimits =
  /** Among threads by memory that all of them have. One that is started again finds it is. */
  | { readonly kind: "shared"; readonly limits: SharedLimits }
  /** Processes share no memory: each of so many has its part. */
  | { readonly kind: "part"; readonly of: number };

/** What a worker is started with. */
export interface WorkerStart {
  readonly role: WorkerRole;
  /** From 1 on. */
  readonly number: number;
  readonly settings: Settings;
  /** The source of each setting. */
  readonly origins: EffectiveSettings["origins"] | undefined;
  readonly version: string;
  readonly nodeId: string;
  readonly generation: number;
  readonly boot: string;
  /** How long the node runs already. The monotonic clocks of two threads differ. */
  readonly uptimeMs: number;
  readonly limits: WorkerLimits;
  /** The serials of the zone, which the main thread changes. Undefined while DNS is off, and in a process, which is told them (`ReplicatedNodeState`). */
  readonly zoneSerials: SharedArrayBuffer | undefined;
  /** What all workers make cookies of DNS with, unless the settings name a file. */
  readonly cookieSecret: Uint8Array;
  /** The routes of the main thread, by the name of their service. A read worker forwards those that it does not answer. */
  readonly routes: Readonly<Record<string, readonly RouteRow[]>>;
  /** Whether log lines are for people or for programs. */
  readonly logFormat: "json" | "text";
}

/** What reads depend on beside the catalog. */
export interface ReplicatedNodeState {
  readonly isReady: boolean;
  /** Whether DNS may be answered: nothing has made the node unready since it was ready. */
  readonly isSound: boolean;
  readonly isWhole: boolean;
  readonly isServing: boolean;
  /** Whether anybody answers DNS. */
  readonly hasDns: boolean;
  readonly hasPeers: boolean;
  readonly ageMs: number;
  /** Whether other nodes write to this catalog, so that it grows old while nothing is heard. */
  readonly isShared: boolean;
  /** As in `PeerDirectory`. */
  readonly unreachable: UnreachableNodes | undefined;
  /** Why this node takes neither renewals nor watches: another process runs under its id. */
  readonly startRefusal: SentError | undefined;
  readonly endedStaticCount: number;
  /** The serials of the zone, for a process. Threads share their memory. */
  readonly zoneSerials: Uint32Array<ArrayBuffer> | undefined;
}

/** What the node tells people of its state. It is said a few times a second, and to a worker that asks. */
export interface NodeReport {
  readonly readiness: ReadinessReport;
  readonly persistence: JsonValue;
}

export type WorkerOrder =
  /** Open the listeners. */
  | { readonly kind: "listen"; readonly shared: SharedPorts }
  /** Say these addresses of the node to those who ask: listener name to `host:port`. */
  | { readonly kind: "name"; readonly listeners: Readonly<Record<string, string>> }
  | { readonly kind: "reload" }
  | { readonly kind: "drain"; readonly withinMs: number }
  | { readonly kind: "stop"; readonly withinMs: number }
  /** Say the values of your metrics. */
  | { readonly kind: "measure"; readonly number: number };

/** The answer to a question. */
export interface WorkerReply {
  readonly id: number;
  readonly scrape?: Awaited<ReturnType<HttpSources["scrape"]>> | undefined;
}

/** A message to a worker. What it says of the catalog comes first, because all else may speak of that. */
export interface ToWorker {
  /** 1, 2, 3, … */
  readonly number: number;
  /** Number of the worker's last message that was heard. */
  readonly heard: number;
  readonly said: ChangeMessage;
  /** Whether somebody waits until the worker has heard this. */
  readonly isAwaited: boolean;
  readonly facts: ReplicatedNodeState;
  readonly report: NodeReport | undefined;
  /** Answers to calls that the worker passed on, in order. */
  readonly answers: readonly CallAnswers[];
  readonly verdicts: readonly WatchVerdict[];
  readonly replies: readonly WorkerReply[];
  readonly orders: readonly WorkerOrder[];
}

/** What a worker asks of its node, beside calls. */
export type WorkerQuestion =
  /** Answered when the copy has all that the node has now. */
  | { readonly kind: "caughtUp"; readonly id: number }
  /** Answered with a report beside it. */
  | { readonly kind: "report"; readonly id: number }
  | { readonly kind: "scrape"; readonly id: number; readonly accept: string };

/** What a worker has done. */
export type WorkerNotice =
  | { readonly kind: "whole" }
  | { readonly kind: "listening"; readonly endpoints: ListenEndpoints }
  /** The listeners could not be opened. The message is for the operator. */
  | { readonly kind: "notListening"; readonly message: string }
  | { readonly kind: "drained" }
  | { readonly kind: "stopped" }
  /** `utilization`: part of the time since the last measurement in which the event loop was busy. */
  | { readonly kind: "measured"; readonly number: number; readonly values: MetricsValues; readonly utilization: number };

export interface FromWorker {
  readonly number: number;
  readonly heard: number;
  readonly calls: CallRequests | undefined;
  readonly watches: readonly WatchNews[];
  readonly events: readonly AuditEvent[];
  readonly questions: readonly WorkerQuestion[];
  readonly done: readonly WorkerNotice[];
  readonly connectionCount: number;
  /** The last changes of policy that the worker shows, and that its watches have heard of. */
  readonly policy: { readonly shown: number; readonly heard: number };
}
