/** Reads the settings of this process, and the rules for settings, for ConfigService. */
import { configDigest, settingDigest } from "../config/digest.ts";
import { exposureFaults, exposureWarnings } from "../config/exposure.ts";
import type { SettingField } from "../config/field.ts";
import { type EffectiveSettings, listSettings, loadConfig } from "../config/load.ts";
import type { Settings } from "../config/settings.ts";
import type { ConfigSource } from "../services/config.ts";

/** `origins` is absent if all settings have their defaults. */
export function configSource(settings: Settings, origins: EffectiveSettings["origins"] = new Map<string, string>()): ConfigSource {
  return {
    settings: listSettings({ settings, origins }).map(({ value, origin, ...row }) => ({
      key: row.path,
      value,
      origin,
      valueType: row.setting.type,
      reloadable: isReloadable(row.setting),
      perNode: row.setting.perNode === true,
      digest: settingDigest(settings, row),
    })),
    digest: configDigest(settings),
    check: checkText,
  };
}

/** Whether SIGHUP reads the file that the setting, or one of its fields, names again. */
function isReloadable({ reloadable, fields = {} }: SettingField<unknown>): boolean {
  return reloadable === true || Object.values(fields).some(({ setting }) => isReloadable(setting));
}

/** Unlike `config validate`, this check does not read the files in the settings, because the caller could choose any file of this machine. */
function checkText(text: string, format: "json" | "toml"): ReturnType<ConfigSource["check"]> {
  const loaded = loadConfig({ file: { name: "", text, format }, env: {}, flags: new Map() });
  if (!loaded.ok) return { problems: loaded.problems.map(({ path, message }) => ({ key: path, message })), warnings: [] };
  const { settings } = loaded.effective;
  return { problems: exposureFaults(settings).map((message) => ({ key: "", message })), warnings: [...exposureWarnings(settings)] };
}
