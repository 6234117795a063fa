/** The join policy in the control store, which is the JSON of the response of GetJoinPolicy, and its conversion from the contract's messages. */
import { create, fromJsonString, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import {
  IdentityRole,
  JoinEffect,
  type JoinPolicy as JoinPolicyMessage,
  JoinTokenUse,
  type BootstrapServiceGetJoinPolicyResponse as PolicyVersion,
  BootstrapServiceGetJoinPolicyResponseSchema as PolicyVersionSchema,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { IDENTITY_ROLES } from "../../lib/certificates/spiffe.ts";
import { enumValue } from "../../lib/enum-words.ts";
import { WaymarkError } from "../../lib/errors.ts";

export type { JoinPolicyMessage, PolicyVersion };
export type JoinPolicy = ReturnType<typeof policyOf>;

export function policyOf({ issuers, rules }: JoinPolicyMessage) {
  const rulesOf = rules.map(({ effect, roles, token, ...conditions }) => ({
    ...conditions,
    isAllowed: effect === JoinEffect.ALLOW,
    isTokenReplaced: token === JoinTokenUse.REPLACED,
    roles: IDENTITY_ROLES.filter((word) => roles.includes(enumValue(IdentityRole, word))),
  }));
  return { issuers, rules: rulesOf };
}

export function encodePolicy(version: MessageInitShape<typeof PolicyVersionSchema>): Uint8Array {
  return new TextEncoder().encode(toJsonString(PolicyVersionSchema, create(PolicyVersionSchema, version)));
}

/** Version 0 if there is no record. Throws for a record of a later version, because a condition that is not known here must not be ignored. */
export function decodePolicy(value: Uint8Array | undefined): PolicyVersion {
  try {
    return fromJsonString(PolicyVersionSchema, value === undefined ? "{}" : new TextDecoder().decode(value));
  } catch (cause) {
    throw new WaymarkError("version_conflict", "the join policy in the control store cannot be read; remove it from the store", { cause });
  }
}
