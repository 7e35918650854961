"""Attacks on the weights: how long does a model stay safe when somebody who has its weights trains or edits them?"""
