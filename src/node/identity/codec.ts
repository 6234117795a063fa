/** The messages of JoinService on the side of the program that calls an issuer. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import {
  type IssuedCertificate,
  JoinService,
  JoinServiceJoinRequestSchema,
  JoinServiceJoinResponseSchema,
  JoinServiceRenewRequestSchema,
  JoinServiceRenewResponseSchema,
} from "../../../gen/waymark/control/v1/join_pb.js";
import type { JoinRequest, RenewalRequest } from "../../control/identity/authority.ts";
import type { IssuerRecord } from "../../control/identity/records.ts";

/** The answer of an issuer. */
export interface CertificateFiles {
  /** The leaf and the intermediate, in PEM. */
  readonly certificates: string;
  readonly roots: string;
  readonly issuers: readonly Pick<IssuerRecord, "address" | "nodeId">[];
}

/** A call of an issuer: its path, its request, and the reader of its response. */
export interface IssuerCall {
  readonly path: string;
  readonly message: Uint8Array;
  readonly read: (response: Uint8Array) => CertificateFiles;
}

const ROLES = { node: IdentityRole.NODE, resolver: IdentityRole.RESOLVER, client: IdentityRole.CLIENT } as const;

export function joinCall({ token, name, publicKey, signature }: JoinRequest): IssuerCall {
  const request = create(JoinServiceJoinRequestSchema, { token, name, publicKey, signature });
  return {
    path: pathOf(JoinService.method.join.name),
    message: toBinary(JoinServiceJoinRequestSchema, request),
    read: (bytes) => filesOf(fromBinary(JoinServiceJoinResponseSchema, bytes).issued),
  };
}

export function renewCall({ role, name, publicKey, signature, newPublicKey, newSignature }: RenewalRequest): IssuerCall {
  const fields = { role: ROLES[role], name, publicKey, signature, newPublicKey, newSignature };
  return {
    path: pathOf(JoinService.method.renew.name),
    message: toBinary(JoinServiceRenewRequestSchema, create(JoinServiceRenewRequestSchema, fields)),
    read: (bytes) => filesOf(fromBinary(JoinServiceRenewResponseSchema, bytes).issued),
  };
}

function pathOf(method: string): string {
  return `/${JoinService.typeName}/${method}`;
}

function filesOf(issued: IssuedCertificate | undefined): CertificateFiles {
  const { certificates = "", roots = "", issuers = [] } = issued ?? {};
  if (certificates === "" || roots === "") throw new Error("the issuer's answer contains no certificate");
  return { certificates, roots, issuers };
}
