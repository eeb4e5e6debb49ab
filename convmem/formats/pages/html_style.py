"""How the page looks: light and dark, on a wide screen, on a phone, on paper."""

from __future__ import annotations

_LIGHT = """\
color-scheme:light;--paper:#fcfbf9;--card:#f2f0eb;--code:#f5f4f0;--line:#dedad2;--ink:#23211e;
--soft:#6a655c;--link:#0b5cad;--user:#8a4b12;--assistant:#1d6a52;--tool:#75529c;--system:#8a6a00;
--bad:#b3261e;--hit:#ffe08a;--now:#ff9b3d;--onhit:#1b1a17;--k:#9b2d7f;--s:#2a6b1f;--c:#6f6a60;
--n:#1257a8;--f:#7a4a00;--t:#0f6973;--d:#fbe3e0;--i:#e0f2df;--dt:#8c1d18;--it:#1b5e20"""

_DARK = """\
color-scheme:dark;--paper:#17181b;--card:#212328;--code:#1d1f23;--line:#34373e;--ink:#e6e3dd;
--soft:#a09b91;--link:#7db7f5;--user:#e8a868;--assistant:#6fcfae;--tool:#c3a4ea;--system:#e0c15c;
--bad:#ff8a80;--hit:#6b5600;--now:#b85c00;--onhit:#fff;--k:#e58fcb;--s:#9bd08c;--c:#938e84;
--n:#8fbdf5;--f:#e9bd78;--t:#74cbd6;--d:#43211f;--i:#1d3a22;--dt:#ffb4ab;--it:#a5d6a7"""

STYLE = f"""
:root{{{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{_DARK}}}}}
:root[data-theme=dark]{{{_DARK}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;text-size-adjust:100%;scroll-padding-top:4.5rem}}
body{{margin:0;background:var(--paper);color:var(--ink);
font:1.03rem/1.62 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
overflow-wrap:anywhere}}
code,pre,.gist,.line,.at{{font-family:ui-monospace,"SF Mono","Cascadia Code",Menlo,Consolas,
"DejaVu Sans Mono","Liberation Mono",monospace}}
a{{color:var(--link);text-underline-offset:.15em}}
:focus-visible{{outline:2px solid var(--link);outline-offset:2px;border-radius:3px}}
[hidden]{{display:none!important}}
.apart{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
.skip:focus{{position:fixed;z-index:9;top:.5rem;left:.5rem;width:auto;height:auto;clip-path:none;
padding:.4rem .8rem;background:var(--paper)}}

.bar{{position:sticky;top:0;z-index:3;display:flex;flex-wrap:wrap;align-items:center;
gap:.4rem .9rem;
padding:.5rem max(1rem,calc(50vw - 30rem));background:var(--paper);
border-bottom:1px solid var(--line);font-size:.86rem}}
.find{{flex:1 1 11rem;max-width:22rem}}
.find input{{width:100%;padding:.38rem .7rem;font:inherit;font-size:.95rem;color:inherit;
background:var(--card);border:1px solid var(--line);border-radius:.5rem}}
#count{{color:var(--soft);min-width:4.5em;font-variant-numeric:tabular-nums}}
.group{{display:inline-flex;gap:.3rem}}
.end{{margin-left:auto}}
.bar:not(.searching) .hits{{visibility:hidden}}
.bar button,.copy{{font:inherit;color:inherit;background:none;border:1px solid var(--line);
border-radius:.45rem;padding:.26rem .6rem;cursor:pointer}}
.bar button:hover,.copy:hover{{background:var(--card)}}
.bar button:disabled{{opacity:.45;cursor:default}}
.bar button[aria-pressed=true]{{background:var(--card);border-color:var(--soft)}}
#roles button[aria-pressed=false]{{color:var(--soft);text-decoration:line-through;
border-style:dashed}}

.top,main,.foot{{max-width:62rem;margin:0 auto;padding:0 1rem}}
.top{{padding-top:2.4rem;padding-bottom:.6rem}}
.top h1{{margin:0 0 .3rem;font-size:1.75rem;line-height:1.25;font-weight:650;letter-spacing:-.01em}}
.top p,.foot p{{margin:0;color:var(--soft);font-size:.86rem}}
.foot{{padding-top:2.5rem;padding-bottom:4rem}}
.day{{margin:2.2rem 0 .6rem;padding-bottom:.3rem;border-bottom:1px solid var(--line);
color:var(--soft);font-size:.82rem;font-weight:600;letter-spacing:.03em}}
.note{{margin:1rem 0;color:var(--soft);font-size:.9rem;font-style:italic}}

.turn{{display:grid;grid-template-columns:7.2rem minmax(0,1fr);gap:0 1.5rem;padding:.85rem 0;
content-visibility:auto;contain-intrinsic-size:auto 6rem}}
.turn.quiet{{padding:.12rem 0;contain-intrinsic-size:auto 2rem}}
.turn>header{{display:flex;flex-direction:column;align-items:flex-end;text-align:right;
padding-top:.12rem;font-size:.8rem;line-height:1.45;color:var(--soft)}}
.turn h2{{margin:0;font-size:.92rem;font-weight:650;line-height:1.5}}
.user h2{{color:var(--user)}}.assistant h2{{color:var(--assistant)}}
.tool h2{{color:var(--tool)}}.system h2,.other h2{{color:var(--system)}}
.at{{color:inherit;text-decoration:none;font-size:.74rem}}
.at:hover{{text-decoration:underline}}
.by{{font-size:.74rem}}
.branch{{color:var(--system)}}
.quiet.same h2{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
.quiet>header{{padding-top:.28rem}}
.aside .said{{border-left:3px dashed var(--line);padding-left:.9rem}}
.said{{min-width:0;max-width:48rem}}
.said>:first-child,.text>:first-child{{margin-top:0}}
.said>:last-child,.text>:last-child{{margin-bottom:0}}
.user .said{{background:var(--card);border-radius:.8rem;padding:.8rem 1.1rem}}
.system .said{{border-left:3px solid var(--line);padding-left:1rem;color:var(--soft)}}
.turn:target{{background:linear-gradient(90deg,var(--card),transparent);
box-shadow:-.35rem 0 0 var(--link)}}

.text p,.text ul,.text ol,.text blockquote,.table,.code,figure{{margin:.75em 0}}
.text h3,.text h4,.text h5,.text h6{{margin:1.5em 0 .5em;line-height:1.3;font-weight:650}}
.text h3{{font-size:1.28rem}}.text h4{{font-size:1.12rem}}.text h5,.text h6{{font-size:1rem}}
.text ul,.text ol{{padding-inline-start:1.6em}}
.text li{{margin:.2em 0}}.text li>p{{margin:.35em 0}}
.text blockquote{{margin-inline:0;padding-inline-start:1em;
border-inline-start:3px solid var(--line);color:var(--soft)}}
.text hr{{border:0;border-top:1px solid var(--line);margin:1.6em 0}}
.table{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.92em;overflow-wrap:normal}}
th,td{{padding:.35em .8em;border-bottom:1px solid var(--line);text-align:start;vertical-align:top}}
th{{font-weight:650;border-bottom-width:2px}}
.right{{text-align:right}}.center{{text-align:center}}
code{{font-size:.875em;background:var(--code);border-radius:.3em;padding:.12em .34em}}
pre{{margin:0;font-size:.84rem;line-height:1.52;tab-size:4}}
pre code{{font-size:inherit;background:none;padding:0}}
.code{{position:relative;background:var(--code);border:1px solid var(--line);border-radius:.6rem}}
.code pre{{padding:.75rem .95rem;overflow-x:auto;max-height:38rem;overflow-wrap:normal}}
.code[data-lang]::before{{content:attr(data-lang);display:block;padding:.3rem .95rem 0;
font-size:.72rem;color:var(--soft)}}
.code[data-lang] pre{{padding-top:.3rem}}
.copy{{position:absolute;top:.3rem;right:.35rem;padding:.1rem .5rem;font-size:.72rem;
color:var(--soft);background:var(--code);opacity:0}}
.code:hover .copy,.copy:focus-visible{{opacity:1}}
.plain,.output{{white-space:pre-wrap;unicode-bidi:plaintext}}
.plain{{font-family:inherit;font-size:.95rem}}
.output{{max-height:38rem;overflow-y:auto}}
.k{{color:var(--k)}}.s{{color:var(--s)}}.c{{color:var(--c)}}.n{{color:var(--n)}}
.f{{color:var(--f)}}.t{{color:var(--t)}}.v{{color:var(--n)}}
.d{{color:var(--dt);background:var(--d)}}.i{{color:var(--it);background:var(--i)}}
.change .d,.change .i{{display:inline-block;min-width:100%}}

figure{{margin-inline:0}}
img{{max-width:100%;max-height:40rem;height:auto;border-radius:.5rem;border:1px solid var(--line);
background:#fff}}
figcaption,.file{{font-size:.86rem;color:var(--soft)}}
.save{{display:inline-block;margin-right:.4rem;padding:.1rem .6rem;border:1px solid var(--line);
border-radius:.4rem;text-decoration:none}}

details{{margin:.3rem 0}}
.quiet details,.quiet .said p{{margin:.1rem 0}}
summary{{cursor:pointer;list-style:none;display:flex;align-items:baseline;gap:.6rem;
padding:.16rem .55rem;margin-inline-start:-.55rem;border-radius:.45rem;font-size:.86rem;
color:var(--soft)}}
summary::-webkit-details-marker{{display:none}}
summary::before{{content:"▸";flex:none;width:.7em;font-size:.8em}}
details[open]>summary::before{{content:"▾"}}
summary:hover{{background:var(--card)}}
.user summary:hover{{background:var(--code)}}
p.call,p.result,p.other{{font-size:.86rem;color:var(--soft)}}
p.call,p.result{{padding-inline-start:1.2rem}}
p.result{{display:flex;gap:.6rem;align-items:baseline}}
.what{{flex:none;font-weight:600}}
.call .what{{color:var(--tool)}}
.failed .what{{color:var(--bad)}}
.of{{flex:none;color:inherit;text-decoration:none}}
a.of:hover{{text-decoration:underline}}
.gist{{flex:0 1 auto;min-width:0;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;
font-size:.8rem}}
.thought .gist,.long .gist{{font-family:inherit;font-style:italic}}
details[open]>summary .gist{{visibility:hidden}}
.size{{flex:none;margin-left:auto;font-size:.74rem;font-variant-numeric:tabular-nums}}
.line{{font-size:.8rem;color:var(--ink)}}
details>:not(summary){{margin:.3rem 0 .8rem .2rem;padding-inline-start:1rem;
border-inline-start:2px solid var(--line)}}
details>.code{{padding-inline-start:0;border:1px solid var(--line);margin-inline-start:1.2rem}}
.thought .text{{font-size:.94rem;color:var(--soft)}}
.none{{margin:0;color:var(--soft);font-size:.82rem;font-style:italic}}
.given{{font-size:.9rem}}
dt{{font-size:.74rem;color:var(--soft);margin-top:.45rem}}
dd{{margin:.1rem 0 0}}dd .code{{margin:.1rem 0}}
.given dt:first-child{{margin-top:0}}

::highlight(hits){{background:var(--hit);color:var(--onhit)}}
::highlight(now){{background:var(--now);color:var(--onhit)}}
.has-hit>summary .what::after{{content:" •";color:var(--now)}}
main.only .turn:not(.hit),main.only .note{{display:none}}
main[data-hide~=user] .turn[data-role=user],main[data-hide~=assistant] .turn[data-role=assistant],
main[data-hide~=system] .turn[data-role=system],main[data-hide~=tool] .turn[data-role=tool],
main[data-hide~=other] .turn[data-role=other]{{display:none}}

#outline{{display:none}}
@media (min-width:88rem){{
#outline{{display:block;position:fixed;top:4rem;bottom:0;left:0;width:calc(50vw - 31rem);
max-width:19rem;overflow-y:auto;padding:2rem .5rem 2rem 1.4rem;font-size:.82rem;line-height:1.4;
overscroll-behavior:contain}}
#outline ol{{list-style:none;margin:0;padding:0}}
#outline h2{{margin:0 0 .4rem;font-size:.78rem;color:var(--soft);font-weight:600}}
#outline a{{display:block;padding:.28rem .5rem;border-radius:.4rem;color:var(--soft);
text-decoration:none;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}}
#outline a:hover{{background:var(--card);color:var(--ink)}}
}}
@media (max-width:52rem){{
body{{font-size:1rem}}
.top{{padding-top:1.4rem}}.top h1{{font-size:1.4rem}}
.turn{{display:block;padding:.7rem 0}}
.turn>header{{flex-direction:row;align-items:baseline;gap:.6rem;padding:0 0 .2rem}}
.quiet.same>header{{display:none}}
.user .said{{padding:.7rem .85rem}}
.bar{{padding:.45rem .8rem;gap:.4rem;font-size:.8rem}}
.bar:not(.searching) .hits,.bar:not(.searching) #count{{display:none}}
.find{{flex-basis:12rem;max-width:none}}
.bar button{{padding:.3rem .5rem}}
.hits{{margin-left:auto}}
.hits,#count{{order:8}}
#roles{{order:9;flex:1 0 100%;overflow-x:auto}}
.copy{{opacity:1}}
.code pre{{max-height:26rem}}
}}
@media (hover:none){{.copy{{opacity:1}}}}
@media (prefers-reduced-motion:no-preference){{html{{scroll-behavior:auto}}}}
@media print{{
:root:root{{{_LIGHT}}}
.bar,#outline,.copy,.skip{{display:none!important}}
body{{font-size:10.5pt;background:none}}
.turn{{content-visibility:visible;display:block;padding:.4rem 0}}
.turn>header{{flex-direction:row;gap:.6rem;align-items:baseline}}
.code pre,.output{{max-height:none;overflow:visible;white-space:pre-wrap;overflow-wrap:anywhere}}
.turn h2,.text h3,.text h4{{break-after:avoid}}
.code,figure,tr{{break-inside:avoid-page}}
.text a[href]::after{{content:" (" attr(href) ")";font-size:.85em;color:var(--soft)}}
.user .said{{border:1px solid var(--line)}}
}}
"""
