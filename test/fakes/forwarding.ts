/** The two ends of forwarding, joined by lists of what one has sent and the other has not heard. */
import { create, toBinary } from "@bufbuild/protobuf";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import {
  DiscoveryService,
  type KeepAliveRequest,
  KeepAliveResponseSchema,
  type RegisterRequest,
  RegisterResponseSchema,
  type RenewRequest,
  RenewResponseSchema,
  type UnregisterRequest,
  UnregisterResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Time } from "../../src/lib/machine.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { answeringEach } from "../../src/services/answered-stream.ts";
import { readKeepAliveRequest, readRegisterRequest } from "../../src/services/discovery/response-bytes.ts";
import { CallForwarder, FORWARDING_BOUNDS } from "../../src/services/forwarding/call-forwarder.ts";
import { type ForwardedCall, ForwardedCalls } from "../../src/services/forwarding/forwarded-calls.ts";
import type { CallAnswers, CallRequests } from "../../src/services/forwarding/messages.ts";
import type { CallContext, RouteAnswer, RouteParameters, ServiceDefinition, StreamSource } from "../../src/services/service.ts";

export const CONTEXT: CallContext = {
  caller: { ...anonymousCaller("c1", "10.0.0.1", ["mesh.read", "owner:svc.a"]), principal: "spiffe://a", untilWallMs: 9_000 },
  time: { monoMs: 1, wallMs: 2 },
  requestId: "r-1",
};
const MAIN_TIME: Time = { monoMs: 7_000, wallMs: 1_760_000_000_000 };

/** Answers what a lease id says: with bytes, a message, a promise of either, or what it throws. */
export type Act = (leaseId: string, context: CallContext) => Uint8Array | Promise<Uint8Array>;

/** Renewals are answered by `act`, and all other calls with what they ask. */
export function discovery(act: Act = (leaseId) => renewed(leaseId)): ServiceDefinition {
  return {
    desc: DiscoveryService,
    handlers: {
      renew: { kind: "unary", handle: ({ leaseIds }: RenewRequest, context) => act(leaseIds.join(), context) },
      register: {
        kind: "unary",
        read: readRegisterRequest,
        handle: ({ entries, leaseId }: RegisterRequest) =>
          create(RegisterResponseSchema, { leaseId, cursor: entries.map(({ key }) => key?.name).join() }),
      },
      unregister: {
        kind: "unary",
        handle: async ({ keys }: UnregisterRequest) => create(UnregisterResponseSchema, { removed: keys.length }),
      },
      keepAlive: answeringEach(
        ({ leaseIds }: KeepAliveRequest) => create(KeepAliveResponseSchema, { expiredLeaseIds: [...leaseIds] }),
        readKeepAliveRequest,
      ),
    },
  };
}

export function renewed(...expiredLeaseIds: string[]): Uint8Array {
  return toBinary(RenewResponseSchema, create(RenewResponseSchema, { expiredLeaseIds }));
}

export function peers(open: () => StreamSource): ServiceDefinition {
  return { desc: PeerService, handlers: { watch: { kind: "server_streaming", open } } };
}

/** A service with one route. */
export function routed(
  answer: (parameters: RouteParameters, context: CallContext) => RouteAnswer | Promise<RouteAnswer>,
): ServiceDefinition {
  return { desc: PeerService, handlers: {}, routes: [{ path: "/control/peers", parameters: ["a"], rpc: "list", answer }] };
}

/** Waits until what handlers have promised by now has come. */
export async function handlersSettle(): Promise<void> {
  for (let step = 0; step < 10; step++) await Promise.resolve();
}

export class Forwarding {
  readonly worker: CallForwarder;
  readonly main: ForwardedCalls;
  /** As the worker has it. */
  readonly service: Required<Pick<ServiceDefinition, "handlers" | "routes">>;
  readonly bugs: { readonly fault: unknown; readonly call: ForwardedCall }[] = [];
  /** What is on its way to the main thread, and to the worker. */
  readonly toMain: CallRequests[] = [];
  readonly toWorker: CallAnswers[] = [];
  /** How often an end said that there is something to take, since it was last taken. */
  workerWakes = 0;
  mainWakes = 0;
  /** How many calls the main thread runs in this turn of its event loop, and what it does in the next one. */
  callsLeft = Number.POSITIVE_INFINITY;
  readonly later: (() => void)[] = [];

  constructor(service: ServiceDefinition, bounds: { readonly maxCalls: number; readonly maxBytes: number } = FORWARDING_BOUNDS) {
    this.worker = new CallForwarder({ ...bounds, wake: () => void this.workerWakes++ });
    this.main = new ForwardedCalls({
      services: [service],
      now: () => MAIN_TIME,
      onBug: (fault, call) => this.bugs.push({ fault, call }),
      wake: () => void this.mainWakes++,
      turn: { mayAct: () => this.callsLeft-- > 0, wait: (act) => void this.later.push(act) },
    });
    const rows = (service.routes ?? []).map(({ answer: _atMain, ...row }) => row);
    this.service = this.worker.service(service.desc, {}, structuredClone(rows));
  }

  /** The worker sends what it has, in a form that reaches another thread, if it said so. */
  send(): void {
    if (this.workerWakes === 0) return;
    this.workerWakes = 0;
    const asked = this.worker.take();
    if (asked !== undefined) this.toMain.push(structuredClone(asked));
  }

  /** The main thread hears what was sent, and sends what it has. */
  answer(): void {
    for (const asked of this.toMain.splice(0)) this.main.hear(asked);
    if (this.mainWakes === 0) return;
    this.mainWakes = 0;
    const answered = this.main.take();
    if (answered !== undefined) this.toWorker.push(structuredClone(answered));
  }

  /** The worker hears what was answered. */
  hear(): void {
    for (const answered of this.toWorker.splice(0)) this.worker.hear(answered);
  }

  /** All of it, until nothing is on its way. Promises of handlers settle between. */
  async settle(): Promise<void> {
    do {
      this.send();
      this.answer();
      this.hear();
      await handlersSettle();
      this.answer();
      this.send();
    } while (this.toMain.length + this.toWorker.length > 0);
  }

  /** Calls a unary handler as a listener does that has these bytes. */
  async call(method: string, bytes: Uint8Array, context = { ...CONTEXT }): Promise<Uint8Array> {
    const handler = this.service.handlers[method];
    if (handler?.kind !== "unary") throw new Error(`${method} is not unary`);
    const answer = await handler.handle(handler.read?.(bytes) as never, context);
    if (!(answer instanceof Uint8Array)) throw new Error("a forwarded call is answered with bytes");
    return answer;
  }

  /** Opens the watch of `peers`. */
  open(): StreamSource {
    const { watch } = this.service.handlers;
    if (watch?.kind !== "server_streaming") throw new Error("watch is no stream");
    return watch.open(watch.read?.(new Uint8Array()) as never, CONTEXT);
  }
}
