/** Streams of heartbeats, with which programs lead scopes or own shards through this node. */
import type { Message } from "@bufbuild/protobuf";
import { WaymarkError } from "../lib/errors.ts";
import type { Caller } from "../policy/identity/caller.ts";
import type { AnswerSink, CallContext, MethodHandler } from "./service.ts";
import { StreamLimit } from "./stream-limit.ts";

/** Decides whether programs may use this node, which operators may have cordoned. */
export interface HeartbeatGate {
  /** Throws `draining` while this node accepts no new streams. */
  checkNew(): void;
  /** Calls `onLeave` when the streams must leave this node, until the returned function is called. */
  follow(onLeave: (error: WaymarkError) => void): () => void;
}

/** The stream of one program. */
export interface HeartbeatListener<I extends Message> {
  message(request: I): void;
  /** Called when the node stops. By default, the stream fails with the error. */
  leave?(error: WaymarkError): void;
  /** Called when the node is drained and continues to run. The stream ends with the error when the program has given up its scopes or shards. */
  standDown(error: WaymarkError): void;
  /** Called when a permitted stream has ended. */
  over(): void;
}

/** The answers of one stream. */
export class HeartbeatCall<O extends Message> {
  readonly caller: Caller;
  readonly #answers: AnswerSink<O>;
  readonly #count: () => () => void;
  #stopCounting: (() => void) | undefined;

  /** `count` counts the stream until the returned function is called, or throws `quota_exceeded`. */
  constructor(answers: AnswerSink<O>, caller: Caller, count: () => () => void) {
    this.#answers = answers;
    this.caller = caller;
    this.#count = count;
  }

  /** Counts the stream, once it is permitted. */
  permitted(): void {
    this.#stopCounting ??= this.#count();
  }

  answer(message: O): void {
    const answers = this.#answers;
    if (answers.send(message)) return;
    // The heartbeats of a program that does not read its answers wait, so that the answers do not fill the memory.
    answers.pause();
    answers.onceRoomy(() => answers.resume());
  }

  end(): void {
    this.#answers.end();
  }

  fail(error: WaymarkError): void {
    this.#answers.fail(error);
  }

  /** Returns whether the stream was permitted. */
  closed(): boolean {
    this.#stopCounting?.();
    return this.#stopCounting !== undefined;
  }
}

/** `what` names the streams in errors. A node accepts at most `max` of them. */
export function heartbeatHandler<I extends Message, O extends Message>(
  { what, max, gate }: { readonly what: string; readonly max: number; readonly gate: HeartbeatGate },
  open: (call: HeartbeatCall<O>) => HeartbeatListener<I>,
): MethodHandler {
  const limit = new StreamLimit(what, max);
  return {
    kind: "bidi_streaming",
    open: (answers: AnswerSink<O>, { caller }: CallContext) => {
      const call = new HeartbeatCall(answers, caller, () => limit.open(caller));
      gate.checkNew();
      const listener = open(call);
      const unfollow = gate.follow((error) => listener.standDown(error));
      return {
        message: (request: I) => listener.message(request),
        halfClosed: () => call.end(),
        leave: (error: WaymarkError) => (listener.leave === undefined ? call.fail(error) : listener.leave(error)),
        close: () => {
          unfollow();
          if (call.closed()) listener.over();
        },
      };
    },
    answerOne: () => {
      throw new WaymarkError("unimplemented", `a node with read workers accepts no ${what}: set node.workers = 0, or use another node`);
    },
  };
}
