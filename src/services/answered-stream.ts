/** A bidirectional stream that answers each request with one message, in order. */
import type { Message } from "@bufbuild/protobuf";
import type { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import type { AnswerSink, CallContext, MethodHandler, RequestListener, RequestReader, UnaryHandler } from "./service.ts";

/** Returns the handler of a stream that answers each request with `handle`. The context of each request has its own time. */
export function answeringEach<I extends Message, O extends Message>(handle: UnaryHandler<I, O>, read?: RequestReader): MethodHandler {
  return {
    kind: "bidi_streaming",
    open: (answers: AnswerSink<O>, context) => new AnsweredStream(handle, answers, context),
    answerOne: handle,
    read,
  };
}

/** Does not accept further requests while the promise of an answer is pending, or while the client has not read the last answer. */
class AnsweredStream<I extends Message, O extends Message> implements RequestListener<I> {
  readonly #handle: UnaryHandler<I, O>;
  readonly #answers: AnswerSink<O>;
  readonly #context: CallContext;
  #isWaiting = false;
  #isHalfClosed = false;
  #leaving: WaymarkError | undefined;

  constructor(handle: UnaryHandler<I, O>, answers: AnswerSink<O>, context: CallContext) {
    this.#handle = handle;
    this.#answers = answers;
    this.#context = context;
  }

  // HOT: runs once per renewal. A synchronous answer to a client that keeps up does not create a promise.
  message(request: I, time: Time): void {
    const answer = this.#handle(request, { ...this.#context, time });
    if (!(answer instanceof Promise)) {
      this.#send(answer);
      return;
    }
    this.#wait();
    answer.then((known) => this.#send(known)).catch((thrown: unknown) => this.#answers.fail(thrown)); // Also catches errors when the answer is sent.
  }

  halfClosed(): void {
    this.#isHalfClosed = true;
    this.#endIfDue();
  }

  leave(error: WaymarkError): void {
    this.#leaving = error;
    this.#endIfDue();
  }

  close(): void {}

  #send(answer: O | Uint8Array): void {
    const isRoomy = this.#answers.send(answer);
    if (isRoomy) this.#goOn();
    else {
      this.#wait();
      this.#answers.onceRoomy(() => this.#goOn());
    }
  }

  #wait(): void {
    this.#isWaiting = true;
    this.#answers.pause();
  }

  #goOn(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#answers.resume(); // Delivers the requests that were received in the meantime. One of these requests may pause the stream again.
    this.#endIfDue();
  }

  #endIfDue(): void {
    if (this.#isWaiting) return;
    if (this.#leaving !== undefined) this.#answers.fail(this.#leaving);
    else if (this.#isHalfClosed) this.#answers.end();
  }
}
