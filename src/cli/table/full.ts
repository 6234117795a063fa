/**
 * The VERBS table including the flags of `serve` for settings. This file is separate, because loading the settings is slower than most commands.
 */
import type { SettingField } from "../../config/field.ts";
import { SETTING_ROWS } from "../../config/settings.ts";
import type { FlagSpec, VerbSpec } from "./verb.ts";
import { VERBS } from "./verbs.ts";

const SETTING_FLAGS = SETTING_ROWS.flatMap(({ setting, path }): FlagSpec[] =>
  setting.flag === undefined
    ? []
    : [
        {
          flags: setting.flag,
          doc: `${setting.doc} (setting ${path}${defaultText(setting)})`,
          // A list is rejected if it is given twice, because the first list would be silently lost. An empty list is also rejected, because a node
          // whose --join is an unset variable would start alone.
          ...(setting.type.startsWith("list") ? { isList: true } : { mayBeEmpty: true, isOverridable: true }),
          ...(setting.choices && { choices: setting.choices }),
        },
      ],
);

/** Empty for a setting that has no default, or whose default is off or an empty list. */
function defaultText(setting: SettingField<unknown>): string {
  const text = setting.default === false ? "" : setting.toText(setting.default);
  return text === "" ? "" : `, default ${text}`;
}

export const ALL_VERBS: readonly VerbSpec[] = VERBS.map((verb) => {
  if (verb.path !== "serve") return verb;
  const [first = [], rest = []] = [verb.flags?.slice(0, 1), verb.flags?.slice(1)];
  return { ...verb, flags: [...first, ...SETTING_FLAGS, ...rest] };
});
