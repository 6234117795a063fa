/** Why a call to another node came to nothing, for people. */
import type { UnaryAnswer } from "../../grpc/client/unary.ts";
import { STATUS } from "../../grpc/wire/status.ts";
import { detailField } from "../wire/validation.ts";

export interface CallFailure {
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

const REFUSED: CallFailure = {
  why: "it refuses our calls: another cluster token, a certificate it does not take, or it has our own id",
  isRefused: true,
};
const NO_FABRIC: CallFailure = {
  why: "what answers there is no fabric listener: seeds are fabric addresses, at port 17421 unless set otherwise",
  isRefused: true,
};
/** What older nodes say, and those that say no more to a node that they do not know. */
const NO_REASON = "refused";

/** Undefined where nothing is known: the other side may be another the next time, because it is busy, or stops. */
export function callFailure(answer: UnaryAnswer & { readonly dialError: unknown }): CallFailure | undefined {
  const { dialError, isMalformed, isFromServer, status } = answer;
  if (dialError instanceof Error) return { why: dialError.message, isRefused: dialError instanceof DialError && dialError.isRefused };
  if (isMalformed) return NO_FABRIC;
  if (!isFromServer) return undefined;
  const { code, message } = status;
  if (code === STATUS.UNIMPLEMENTED || code === STATUS.UNAUTHENTICATED) return NO_FABRIC;
  if (code !== STATUS.PERMISSION_DENIED && code !== STATUS.INVALID_ARGUMENT) return undefined;
  if (message === "" || message === NO_REASON) return REFUSED;
  return { why: `it refuses our calls: ${detailField(message)}`, isRefused: true };
}
