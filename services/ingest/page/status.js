// Status: what the machine is doing, for whoever runs it.
import { get } from "/page/api.js";
import { h, put } from "/page/dom.js";
import { sleep } from "/page/feed.js";
import { bytes, clock, has, moment, number, t } from "/page/i18n.js";
import { notice } from "/page/notice.js";
import { bars, share } from "/page/plot.js";

const LOOK = 2000;

export async function status(root, { signal }) {
  const body = h("div", { class: "grid" });
  const wrong = h("div");
  put(root, h("h1", {}, t("title.status")), wrong, body);
  while (!signal.aborted) {
    try {
      if (!document.hidden) put(body, draw(await get("/status", { signal })));
      put(wrong);
    } catch (error) {
      if (signal.aborted) return;
      put(wrong, notice(error));
      if (error.status === 403 || error.status === 404) return;
    }
    await sleep(LOOK, signal);
  }
}

function draw(told) {
  const { audio, completed, failed, step } = told.throughput;
  const recent = audio.slice(-7, -1).reduce((sum, one) => sum + one, 0) / (6 * step);
  const sum = (values) => values.reduce((all, one) => all + one, 0);
  const ok = Object.values(told.service.checks).every((check) => check === "ok");
  return [
    card(t("status.service"), "", figure(t(ok ? "status.well" : "status.unwell"), t("status.since", { version: told.service.version, when: moment(told.service.started) })),
      pairs(Object.entries(told.service.checks).map(([name, check]) => [name, check])),
      pairs([[t("status.streams"), number(told.streams_open)]])),
    card(t("status.throughput"), "wide", figure(`${number(recent, 1)}×`, t("status.realtime")),
      bars(audio, t("status.plot", { n: clock(sum(audio)) })),
      h("p", { class: "small faint" }, t("status.window", { completed: number(sum(completed)), failed: number(sum(failed)) }))),
    card(t("status.queue"), "", table([t("status.lane"), t("status.jobs"), t("status.audio")],
      told.lanes.map((lane) => [t(`lane.${lane.lane}`), number(lane.jobs), clock(lane.seconds)]))),
    card(t("status.engines"), "wide", told.engines.length ? told.engines.map(engine) : h("p", { class: "notice" }, t("status.engines.none"))),
    card(t("status.live"), "", figure(`${number(told.live.sessions)} / ${number(told.live.capacity)}`, t("status.live.lag", { n: number(told.live.lag, 1) })),
      share(told.live.capacity ? told.live.sessions / told.live.capacity : 0, t("status.live.plot"))),
    card(t("status.failures"), "wide", told.failures.length ? table([t("status.code"), t("status.count"), t("status.last")],
      told.failures.map((one) => [[h("code", { class: one.ours ? "ours" : null }, one.code), has(`error.${one.code}`) ? h("p", { class: "small faint" }, t(`error.${one.code}`)) : null], number(one.count), moment(one.last)])) : h("p", { class: "faint" }, t("status.failures.none"))),
  ];
}

function engine(one) {
  const busy = one.busy ?? 0;
  return h("div", { class: "engine" },
    h("p", {}, h("strong", {}, one.id.slice(0, 8)), " ", h("span", { class: "faint" },
      [one.device, one.rate ? t("status.rate", { n: number(one.rate, 1) }) : null, t("status.busy", { busy: number(busy), slots: number(one.slots) })].filter(Boolean).join(" · "))),
    share(one.slots ? busy / one.slots : 0, t("status.busy", { busy, slots: one.slots })),
    h("p", { class: "small" }, one.models.length ? one.models.map((model) => h("span", { class: "tag" }, model.bytes ? `${model.name} ${bytes(model.bytes)}` : model.name)) : h("span", { class: "faint" }, t("status.models.none"))));
}

const card = (title, kind, ...content) => h("section", { class: `card ${kind}` }, h("h2", {}, title), content);
const figure = (value, text) => h("p", { class: "figure" }, h("strong", {}, value), " ", h("span", { class: "small faint" }, text));
const pairs = (rows) => h("dl", { class: "pairs" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
const table = (heads, rows) => h("table", {}, h("thead", {}, h("tr", {}, heads.map((one) => h("th", { scope: "col" }, one)))),
  h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))));
