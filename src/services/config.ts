/** Implements waymark.control.v1.ConfigService: the settings of this process, and the check of other settings. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  ConfigFormat,
  type ConfigProblemSchema,
  ConfigService,
  ConfigServiceGetResponseSchema,
  type ConfigServiceValidateRequest,
  ConfigServiceValidateResponseSchema,
  type SettingSchema,
} from "../../gen/waymark/control/v1/config_pb.js";
import { listRoute } from "./list-page.ts";
import type { HandlersOf, ServiceDefinition } from "./service.ts";

/** The settings of this process, which do not change while it runs, and their rules. */
export interface ConfigSource {
  readonly settings: MessageInitShape<typeof SettingSchema>[];
  readonly digest: string;
  /** Checks the text of a settings file without reading anything else. */
  readonly check: (
    text: string,
    format: "json" | "toml",
  ) => { readonly problems: MessageInitShape<typeof ConfigProblemSchema>[]; readonly warnings: string[] };
}

export interface ConfigParts extends ConfigSource {
  /** Number of the policy version in force. 0 if there is none. */
  readonly policyNumber: () => number;
  /** Id of this node or resolver. */
  readonly servedBy: string;
}

export function configService(parts: ConfigParts): ServiceDefinition {
  const get = () => settingsAnswer(parts);
  const validate = ({ text, format }: ConfigServiceValidateRequest) =>
    create(ConfigServiceValidateResponseSchema, parts.check(text, format === ConfigFormat.JSON ? "json" : "toml"));
  const handlers = { get: { kind: "unary", handle: get }, validate: { kind: "unary", handle: validate } } as const;
  return {
    desc: ConfigService,
    handlers: handlers satisfies HandlersOf<typeof ConfigService>,
    routes: [listRoute(ConfigService.method.get, get)],
  };
}

function settingsAnswer({ settings, digest, policyNumber, servedBy }: ConfigParts) {
  return create(ConfigServiceGetResponseSchema, { settings, configDigest: digest, policyNumber: BigInt(policyNumber()), servedBy });
}
