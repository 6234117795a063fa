/** The messages of JoinService on the side of the program that calls an issuer. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import {
  JoinService,
  JoinServiceFollowRequestSchema,
  JoinServiceFollowResponseSchema,
  JoinServiceJoinRequestSchema,
  JoinServiceJoinResponseSchema,
  JoinServiceRenewRequestSchema,
  JoinServiceRenewResponseSchema,
} from "../../../gen/waymark/control/v1/join_pb.js";
import type { JoinRequest, RenewalRequest } from "../../control/identity/requests.ts";
import type { TrustChange } from "../../control/identity/trust.ts";

/** A call of an issuer: its path, its request, and the reader of its response. */
export interface IssuerCall<Answer> {
  readonly path: string;
  readonly message: Uint8Array;
  readonly read: (response: Uint8Array) => Answer;
}

/** The answer to a newcomer. */
export interface JoinAnswer {
  /** The leaf and the intermediate, in PEM. */
  readonly certificates: string;
  /** The roots and the issuers. */
  readonly records: readonly TrustChange[];
}

/** A message of a stream of records. */
export interface TrustStep {
  readonly isReset: boolean;
  readonly changes: readonly TrustChange[];
  /** False if more messages belong to the same change. */
  readonly isComplete: boolean;
}

const ROLES = { node: IdentityRole.NODE, resolver: IdentityRole.RESOLVER, client: IdentityRole.CLIENT } as const;

export function joinCall({ token, attestation = "", name, publicKey, signature }: JoinRequest): IssuerCall<JoinAnswer> {
  const request = create(JoinServiceJoinRequestSchema, { token, attestation, name, publicKey, signature });
  return {
    path: pathOf(JoinService.method.join.name),
    message: toBinary(JoinServiceJoinRequestSchema, request),
    read: (bytes) => fromBinary(JoinServiceJoinResponseSchema, bytes),
  };
}

export function renewCall({ role, name, publicKey, signature, newPublicKey, newSignature }: RenewalRequest): IssuerCall<string> {
  const fields = { role: ROLES[role], name, publicKey, signature, newPublicKey, newSignature };
  return {
    path: pathOf(JoinService.method.renew.name),
    message: toBinary(JoinServiceRenewRequestSchema, create(JoinServiceRenewRequestSchema, fields)),
    read: (bytes) => fromBinary(JoinServiceRenewResponseSchema, bytes).certificates,
  };
}

/** The path and the request of Follow, and the reader of its messages. */
export const FOLLOW = {
  path: pathOf(JoinService.method.follow.name),
  message: toBinary(JoinServiceFollowRequestSchema, create(JoinServiceFollowRequestSchema)),
  read: (bytes: Uint8Array): TrustStep => {
    const { reset: isReset, changes, complete: isComplete } = fromBinary(JoinServiceFollowResponseSchema, bytes);
    // An empty value is a removal.
    return { isReset, isComplete, changes: changes.map(({ key, value }) => ({ key, value: value.length === 0 ? undefined : value })) };
  },
} as const;

function pathOf(method: string): string {
  return `/${JoinService.typeName}/${method}`;
}
