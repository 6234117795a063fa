/** Streams of heartbeats, with which programs lead scopes or own shards through this node. */
import type { Message } from "@bufbuild/protobuf";
import { WaymarkError } from "../lib/errors.ts";
import type { Caller } from "../policy/identity/caller.ts";
import type { AnswerSink, CallContext, MethodHandler, RequestListener } from "./service.ts";
import { StreamLimit } from "./stream-limit.ts";

/** One stream and its caller. */
export interface HeartbeatCall<O extends Message> {
  readonly answers: AnswerSink<O>;
  readonly caller: Caller;
  /** Counts the stream until the returned function is called. Throws `quota_exceeded`. */
  readonly count: () => () => void;
}

/** `what` names the streams in errors. A node accepts at most `max` of them. */
export function heartbeatHandler<O extends Message>(
  what: string,
  max: number,
  open: (call: HeartbeatCall<O>) => RequestListener,
): MethodHandler {
  const limit = new StreamLimit(what, max);
  return {
    kind: "bidi_streaming",
    open: (answers: AnswerSink<O>, { caller }: CallContext) => open({ answers, caller, count: () => limit.open(caller) }),
    answerOne: () => {
      throw new WaymarkError("unimplemented", `a node with read workers accepts no ${what}: set node.workers = 0, or use another node`);
    },
  };
}

export abstract class HeartbeatStream<I extends Message, O extends Message> implements RequestListener<I> {
  protected readonly call: HeartbeatCall<O>;
  #stopCounting: (() => void) | undefined;

  constructor(call: HeartbeatCall<O>) {
    this.call = call;
  }

  abstract message(request: I): void;
  /** Called when a stream that was counted has ended. */
  protected abstract over(): void;

  halfClosed(): void {
    this.call.answers.end();
  }

  leave(error: WaymarkError): void {
    this.call.answers.fail(error);
  }

  close(): void {
    this.#stopCounting?.();
    if (this.#stopCounting !== undefined) this.over();
  }

  /** Counts the stream, once it is permitted. */
  protected permitted(): void {
    this.#stopCounting ??= this.call.count();
  }

  protected answer(message: O): void {
    const { answers } = this.call;
    if (answers.send(message)) return;
    // The heartbeats of a program that does not read its answers wait, so that the answers do not fill the memory.
    answers.pause();
    answers.onceRoomy(() => answers.resume());
  }
}
