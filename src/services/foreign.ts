/** What our options (`waymark.options.v1`) would say of rpcs whose protos are not ours to write; they all read. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Cost } from "../policy/limits/rate-limits.ts";

export interface ForeignFacts {
  /** Undefined: never limited. */
  readonly cost: Cost | undefined;
  /** Whether callers without a credential are answered whatever the settings say of them, and while the server drains too. */
  readonly isForEverybody: boolean;
}

const REFLECTION: ForeignFacts = { cost: "read", isForEverybody: false };

const SERVICES: Readonly<Record<string, ForeignFacts>> = {
  // Load balancers have no credential, and must be told that a node drains. One that is not answered takes the node away.
  "grpc.health.v1.Health": { cost: undefined, isForEverybody: true },
  "grpc.reflection.v1.ServerReflection": REFLECTION,
  "grpc.reflection.v1alpha.ServerReflection": REFLECTION,
};

/** Undefined for rpcs of our own. */
export function foreignFacts({ parent }: DescMethod): ForeignFacts | undefined {
  return SERVICES[parent.typeName];
}
