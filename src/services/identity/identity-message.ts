/** The messages of identities, join tokens and issuers. */
import { create } from "@bufbuild/protobuf";
import {
  type Identity,
  IdentityRole,
  IdentitySchema,
  type IssuerNode,
  IssuerNodeSchema,
  type JoinToken,
  JoinTokenSchema,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import type { ListedToken } from "../../control/identity/authority.io.ts";
import type { IssuerRecord, NamedIdentity } from "../../control/identity/records.ts";
import { IDENTITY_ROLES, type IdentityRole as RoleWord } from "../../lib/certificates/spiffe.ts";
import { timestampOf } from "../contract.ts";

const ROLES: Readonly<Record<RoleWord, IdentityRole>> = {
  node: IdentityRole.NODE,
  resolver: IdentityRole.RESOLVER,
  client: IdentityRole.CLIENT,
};

/** Undefined if the role is not set. */
export function roleOf(role: IdentityRole): RoleWord | undefined {
  return IDENTITY_ROLES.find((word) => ROLES[word] === role);
}

export function identityMessage({ role, name, record }: NamedIdentity): Identity {
  const { keyDigest, issuer, tokenId, madeWallMs, expiresWallMs, isRevoked: revoked } = record;
  const dnsNames = [...record.dnsNames];
  const times = { issuedAt: timestampOf(madeWallMs), expiresAt: timestampOf(expiresWallMs) };
  return create(IdentitySchema, { role: ROLES[role], name, keyDigest, dnsNames, issuer, tokenId, revoked, ...times });
}

export function tokenMessage({ id, record }: ListedToken): JoinToken {
  const { role, name, dnsNames, uses, used, createdBy, createdWallMs, expiresWallMs } = record;
  const times = { createdAt: timestampOf(createdWallMs), expiresAt: timestampOf(expiresWallMs) };
  return create(JoinTokenSchema, { id, role: ROLES[role], name, dnsNames: [...dnsNames], uses, used, createdBy, ...times });
}

export function issuerMessage({ nodeId, address, rootKey, expiresWallMs }: IssuerRecord): IssuerNode {
  return create(IssuerNodeSchema, { nodeId, address, rootDigest: rootKey, expiresAt: timestampOf(expiresWallMs) });
}
