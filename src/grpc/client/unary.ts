/** Makes a call with one request and one response, and reports its result with one callback. */
import { GrpcMetadata } from "../wire/metadata.ts";
import type { CallTarget } from "../wire/request-head.ts";
import type { CallListener, CallRequest, CallResult, ClientCall } from "./client-call.ts";

export interface UnaryRequest extends CallTarget {
  readonly message: Uint8Array;
}

/** The result of a unary call. `message` is set only if the status is OK. */
export interface UnaryAnswer extends CallResult {
  readonly message: Uint8Array | undefined;
  readonly metadata: GrpcMetadata;
}

/** Starts calls. A connection implements it. */
export interface CallStarter {
  start(request: CallRequest, listener: CallListener): ClientCall;
}

/**
 * Makes the call. `done` is called once: immediately if the request exceeds the limit, or in a later turn of the event loop if it does not. The
 * returned call can be cancelled.
 */
export function callUnary(connection: CallStarter, request: UnaryRequest, done: (answer: UnaryAnswer) => void): ClientCall {
  const { path, metadata, timeoutMs } = request;
  let answer: Uint8Array | undefined;
  let answerMetadata = new GrpcMetadata();
  const call = connection.start(
    { path, isSingleResponse: true, metadata, timeoutMs },
    {
      metadata: (came) => {
        answerMetadata = came;
      },
      message: (bytes) => {
        answer = bytes;
      },
      closed: (result) => done({ ...result, message: answer, metadata: answerMetadata }),
    },
  );
  call.halfClose(request.message);
  return call;
}
