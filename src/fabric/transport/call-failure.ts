/** What came of a call to another node: its answer, or why there is none, for people. */
import type { UnaryAnswer } from "../../grpc/client/unary.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { wrongAnswerer } from "../links/peer-auth.ts";
import { decodeCallResponse } from "../wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, PeerIdentity } from "../wire/messages.ts";
import { detailField } from "../wire/messages.ts";

export interface PeerCallFailure {
  readonly why: string;
  /** The other side said no; else it was not reached. */
  readonly isRefused: boolean;
}

/** Why there is no connection. `isRefused`: a server is there that is not one to talk to, or turned us away; else none was reached. */
export class DialError extends Error {
  readonly isRefused: boolean;

  constructor(message: string, { isRefused }: { readonly isRefused: boolean }) {
    super(message);
    this.isRefused = isRefused;
  }
}

/** Whether an error of a socket says that a server is there that is not one to talk to: certificates were not taken, or the protocols differ. */
export function isRefusal(code: string, isUnauthorised: boolean): boolean {
  return isUnauthorised || code.startsWith("ERR_SSL_") || code === "EPROTO" || code === "ERR_HTTP2_ERROR";
}

export interface PeerCallOutcome {
  readonly response?: FabricCallResponse;
  /** A node is there and turned us away, or is refused here, and why. */
  readonly refusal?: string;
  /** It is refused here: told as a stranger is. */
  readonly isStranger?: boolean;
  /** What people are told of it. A probe that fails says nothing new, but they want to know why a node cannot join. */
  readonly told?: PeerCallFailure;
}

/** `identity`: what the connection proves that the answer came on. */
export function outcomeOf(kind: FabricCallRequest["kind"], answer: FailedAnswer, identity: PeerIdentity | undefined): PeerCallOutcome {
  if (answer.message === undefined || identity === undefined) {
    const failure = callFailure(answer);
    return {
      ...(failure?.isRefused === true && { refusal: failure.why }),
      ...(failure !== undefined && kind === "pushPull" && { told: failure }),
    };
  }
  try {
    const response = decodeCallResponse(kind, answer.message);
    const wrong = wrongAnswerer(response, identity);
    return wrong === undefined ? { response } : { refusal: wrong, isStranger: true };
  } catch (thrown) {
    if (!(thrown instanceof WaymarkError)) throw thrown;
    return { refusal: thrown.message, isStranger: true };
  }
}

type FailedAnswer = UnaryAnswer & { readonly dialError: unknown };

const REFUSED: PeerCallFailure = {
  why: "it refuses our calls: another cluster token, a certificate it does not take, or it has our own id",
  isRefused: true,
};
const NO_FABRIC: PeerCallFailure = {
  why: "what answers there is no fabric listener: seeds are fabric addresses, at port 17421 unless set otherwise",
  isRefused: true,
};
/** The message of nodes to a caller that they do not know. */
const NO_REASON = "refused";

/** Undefined where nothing is known: the other side may be another the next time, because it is busy, or stops. */
function callFailure(answer: FailedAnswer): PeerCallFailure | undefined {
  const { dialError, isMalformed, isFromServer, status } = answer;
  if (dialError instanceof Error) return { why: dialError.message, isRefused: dialError instanceof DialError && dialError.isRefused };
  if (isMalformed) return NO_FABRIC;
  if (!isFromServer) return undefined;
  const { code, message } = status;
  if (code === CODES.UNIMPLEMENTED || code === CODES.UNAUTHENTICATED) return NO_FABRIC;
  if (code !== CODES.PERMISSION_DENIED && code !== CODES.INVALID_ARGUMENT) return undefined;
  if (message === "" || message === NO_REASON) return REFUSED;
  return { why: `it refuses our calls: ${detailField(message)}`, isRefused: true };
}
