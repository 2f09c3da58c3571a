"""Machine: what this machine is, what its processor can do, which runtimes are here, and how quiet it is."""

import streamlit as st

from stepscope.core import catalog
from stepscope.runs import machine
from stepscope.ui import format, machine_facts, state

services = state.services()
facts = machine.describe()
st.title("Machine")
st.caption(
    f"Fingerprint `{machine.fingerprint(facts)}`: runs of another fingerprint are not comparable with runs made here."
)

left, right = st.columns(2, gap="large")
with left:
    st.subheader("Hardware")
    st.table(machine_facts.hardware(facts))
    st.subheader("Instruction sets")
    for name, has, meaning in machine_facts.instruction_sets(facts):
        st.markdown(f"{':green-badge[has]' if has else ':gray-badge[lacks]'} **{name}** {meaning}")
with right:
    st.subheader("Noise")
    st.caption("Times the same small piece of work many times. On a noisy machine small differences mean nothing.")
    if st.button("Check now"):
        with st.spinner("Measuring"):
            report = machine.noise_check(1.0)
        st.metric("Grade", report.grade, help="95th percentile / median of the same work's time")
        steal = "" if report.steal_share is None else f", {100 * report.steal_share:.1f} % taken by the hypervisor"
        st.caption(
            f"95th percentile {report.spread:.2f} x the median ({format.duration(report.median_ns)}), "
            f"{report.samples} samples, load {report.load_average}{steal}."
        )
    st.subheader("Runtimes")
    for entry in catalog.backends().values():
        title = entry.spec.title if entry.spec else entry.key
        reason = entry.reason or machine_facts.no_device(entry.spec, facts)
        st.markdown(f"{':gray-badge[missing]' if reason else ':green-badge[here]'} **{title}** {reason}")
    st.subheader("Workers and queue")
    machine_facts.live(services)
    st.subheader("Converted models")
    machine_facts.converted()
    st.subheader("Versions")
    st.table(machine_facts.versions(facts))
