/** Outcome of a call to another node: either the response, or a text that explains to operators why there is none. */
import type { UnaryAnswer } from "../../grpc/client/unary.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { wrongAnswerer } from "../links/peer-auth.ts";
import { decodeCallResponse } from "../wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, PeerIdentity } from "../wire/messages.ts";
import { detailField } from "../wire/messages.ts";

export interface PeerCallFailure {
  readonly why: string;
  /** Whether the other side refused the call. Otherwise, the other side could not be reached. */
  readonly isRefused: boolean;
}

/**
 * Explains why there is no connection. `isRefused`: a server was reached, but it is the wrong one or it rejected this node. `hasEnded`: a server was
 * reached, and its certificate or the certificate of this node has ended.
 */
export class DialError extends Error {
  readonly isRefused: boolean;
  readonly hasEnded: boolean;

  constructor(message: string, { isRefused, hasEnded }: { readonly isRefused: boolean; readonly hasEnded: boolean }) {
    super(message);
    this.isRefused = isRefused;
    this.hasEnded = hasEnded;
  }
}

/** Whether a socket error shows that a server was reached but is unusable, because a certificate was not accepted or the protocols differ. */
export function isRefusal(code: string, isUnauthorised: boolean): boolean {
  return isUnauthorised || code.startsWith("ERR_SSL_") || code === "EPROTO" || code === "ERR_HTTP2_ERROR";
}

export interface PeerCallOutcome {
  readonly response?: FabricCallResponse;
  /** The reason why the node that was reached rejected this node, or why this node rejects that node. */
  readonly refusal?: string;
  /** Whether a certificate has ended, so that the call does not show whether the other node is up. */
  readonly hasEnded?: boolean;
  /** Whether this node rejects the other node, which is then reported like an unknown peer. */
  readonly isStranger?: boolean;
  /** A failure that is reported to operators. Failed probes are not reported, but operators must see why a node cannot join. */
  readonly failure?: PeerCallFailure;
}

/** Returns the outcome of a call. `identity` is the identity that was proved by the connection on which the answer arrived. */
export function outcomeOf(kind: FabricCallRequest["kind"], answer: FailedAnswer, identity: PeerIdentity | undefined): PeerCallOutcome {
  if (answer.message === undefined || identity === undefined) {
    const failure = callFailure(answer);
    return {
      ...(failure?.isRefused === true && { refusal: failure.why }),
      ...(answer.dialError instanceof DialError && answer.dialError.hasEnded && { hasEnded: true }),
      ...(failure !== undefined && kind === "pushPull" && { failure: failure }),
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
  why: "the node rejects calls from this node: different cluster token, untrusted certificate, or duplicate node id",
  isRefused: true,
};
const NO_FABRIC: PeerCallFailure = {
  why: "the server is not a fabric listener: seeds must be fabric addresses (port 17421 by default)",
  isRefused: true,
};
/** The message that nodes send to unknown callers. */
const NO_REASON = "refused";

/** Explains a failed call. Undefined if the cause is unknown, because the other side may only be busy or stopping, and the next call may succeed. */
function callFailure(answer: FailedAnswer): PeerCallFailure | undefined {
  const { dialError, isMalformed, isFromServer, status } = answer;
  if (dialError instanceof Error) return { why: dialError.message, isRefused: dialError instanceof DialError && dialError.isRefused };
  if (isMalformed) return NO_FABRIC;
  if (!isFromServer) return undefined;
  const { code, message } = status;
  if (code === CODES.UNIMPLEMENTED || code === CODES.UNAUTHENTICATED) return NO_FABRIC;
  if (code !== CODES.PERMISSION_DENIED && code !== CODES.INVALID_ARGUMENT) return undefined;
  if (message === "" || message === NO_REASON) return REFUSED;
  return { why: `the node rejects calls from this node: ${detailField(message)}`, isRefused: true };
}
